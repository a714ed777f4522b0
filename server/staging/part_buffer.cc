#include "server/staging/part_buffer.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

// Small enough that the copy finds in the cache what the CRC has just read.
constexpr uint64_t kStepBytes = 128 << 10;

}  // namespace

PartBuffer::PartBuffer(std::shared_ptr<StagingFile> file, uint64_t part_bytes,
                       absl::AnyInvocable<void()> credit_grew)
    : file_(std::move(file)),
      part_bytes_(part_bytes),
      file_bytes_(file_ == nullptr ? 0 : file_->bytes()),
      credit_grew_(std::move(credit_grew)) {}

uint64_t PartBuffer::CreditLocked() const { return std::min(part_bytes_, consumed_ + file_bytes_); }

uint64_t PartBuffer::written() const {
  MutexLock lock(mutex_);
  return written_;
}

uint64_t PartBuffer::credit() const {
  MutexLock lock(mutex_);
  return ring() ? CreditLocked() : part_bytes_;
}

absl::Status PartBuffer::Advance(uint64_t written) {
  MutexLock lock(mutex_);
  CKPT_RETURN_IF_ERROR(aborted_);
  const uint64_t credit = ring() ? CreditLocked() : part_bytes_;
  if (written < written_ || written > credit) {
    return absl::InvalidArgumentError(absl::StrCat("progress to ", written,
                                                   " is not between what was written already (",
                                                   written_, ") and the credit (", credit, ")"));
  }
  written_ = written;
  changed_.NotifyAll();
  return absl::OkStatus();
}

absl::Status PartBuffer::CheckNext(uint64_t offset, uint64_t bytes) {
  MutexLock lock(mutex_);
  CKPT_RETURN_IF_ERROR(aborted_);
  const uint64_t credit = ring() ? CreditLocked() : part_bytes_;
  if (offset != written_) {
    return absl::InvalidArgumentError(
        absl::StrCat("data at part offset ", offset, " where offset ", written_, " comes next"));
  }
  if (bytes > credit - offset) {
    return absl::InvalidArgumentError(
        absl::StrCat("data up to ", offset + bytes, " is beyond the credit (", credit, ")"));
  }
  return absl::OkStatus();
}

absl::Status PartBuffer::Write(uint64_t offset, const ReceivedBytes& bytes) {
  MutexLock writing(write_mutex_);
  CKPT_RETURN_IF_ERROR(CheckNext(offset, bytes.bytes()));
  uint64_t end = offset;
  uint32_t crc = 0;
  for (absl::string_view piece : bytes.pieces) {
    while (!piece.empty()) {
      const uint64_t at = end % file_bytes_;
      const uint64_t step = std::min<uint64_t>({piece.size(), kStepBytes, file_bytes_ - at});
      crc = Crc32c(crc, piece.data(), step);
      CKPT_RETURN_IF_ERROR(file_->Write(at, piece.substr(0, step)));
      piece.remove_prefix(step);
      end += step;
    }
  }
  if (crc != bytes.crc32c) {
    return absl::InvalidArgumentError(
        absl::StrCat("data at part offset ", offset, " fails its CRC-32C"));
  }
  MutexLock lock(mutex_);
  CKPT_RETURN_IF_ERROR(aborted_);
  written_ = end;
  changed_.NotifyAll();
  return absl::OkStatus();
}

void PartBuffer::Abort(absl::Status why) {
  {
    MutexLock lock(mutex_);
    if (aborted_.ok()) aborted_ = std::move(why);
    changed_.NotifyAll();
  }
  MutexLock writing(write_mutex_);
}

absl::Status PartBuffer::Read(uint64_t offset, void* out, uint64_t bytes) {
  uint64_t done = 0;
  while (done < bytes) {
    uint64_t ready = 0;
    {
      MutexLock lock(mutex_);
      while (aborted_.ok() && written_ <= offset + done) changed_.Wait(mutex_);
      CKPT_RETURN_IF_ERROR(aborted_);
      ready = std::min(written_ - (offset + done), bytes - done);
    }
    const uint64_t at = (offset + done) % file_bytes_;
    const uint64_t piece = std::min(ready, file_bytes_ - at);
    CKPT_RETURN_IF_ERROR(file_->Read(at, static_cast<char*>(out) + done, piece));
    done += piece;
    // Copied out: in a ring the slot is free from here on, even before this call is whole (a read
    // may be longer than the ring).
    if (ring()) Consumed(offset + done);
  }
  return absl::OkStatus();
}

void PartBuffer::Consumed(uint64_t offset) {
  {
    MutexLock lock(mutex_);
    if (offset <= consumed_) return;
    consumed_ = offset;
  }
  if (ring() && credit_grew_) credit_grew_();
}

}  // namespace ckpt
