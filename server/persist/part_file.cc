#include "server/persist/part_file.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/limits.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

uint64_t RoundUp(uint64_t bytes) {
  return (bytes + kDataAlignmentBytes - 1) / kDataAlignmentBytes * kDataAlignmentBytes;
}

}  // namespace

absl::Status PartFile::Create(FileSystem* files, const std::string& path) {
  CreateFileOptions options;
  options.direct = true;
  options.preallocate_bytes = RoundUp(length());
  CKPT_ASSIGN_OR_RETURN(file_, files->Create(path, options));
  return absl::OkStatus();
}

char* PartFile::Next(WriteBuffers& buffers, PartWrites& writes, uint64_t* room,
                     absl::Status& status) {
  if (buffer_ == nullptr) {
    status = writes.status();
    if (!status.ok()) return nullptr;
    buffer_ = buffers.Take(writes.holder());
    if (buffer_ == nullptr) {
      status = absl::ResourceExhaustedError("no memory for a write buffer");
      return nullptr;
    }
    buffer_bytes_ = buffers.buffer_bytes();
    buffer_begin_ = offset_;
  }
  const uint64_t used = offset_ - buffer_begin_;
  *room = std::min<uint64_t>(buffer_bytes_ - used, length() - offset_);
  return buffer_ + used;
}

void PartFile::Filled(uint64_t bytes, WriterPool& pool, PartWrites& writes) {
  offset_ += bytes;
  const uint64_t used = offset_ - buffer_begin_;
  if (used < buffer_bytes_ && offset_ < length()) return;
  const uint64_t padded = RoundUp(used);
  std::memset(buffer_ + used, 0, padded - used);
  pool.Write(&writes, file_.get(), buffer_begin_, std::exchange(buffer_, nullptr), padded);
}

void PartFile::Abandon(WriteBuffers& buffers, PartWrites& writes) {
  if (buffer_ != nullptr) buffers.GiveBack(writes.holder(), std::exchange(buffer_, nullptr));
}

absl::Status PartFile::Cut() {
  return RoundUp(length()) == length() ? absl::OkStatus() : file_->Truncate(length());
}

absl::Status PartFile::Sync() {
  CKPT_RETURN_IF_ERROR(file_->Sync());
  return file_->Close();
}

}  // namespace ckpt
