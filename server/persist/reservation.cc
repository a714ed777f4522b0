#include "server/persist/reservation.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/byte_size.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

constexpr uint64_t kAllowanceBytes = 4 << 20;
constexpr uint64_t kKeepFreeBytes = 64 << 20;
constexpr uint64_t kIndexBytes = 256 << 10;  // which it may write at any time

uint64_t WithAllowance(uint64_t part_bytes) {
  return part_bytes + part_bytes / 128 + kAllowanceBytes;
}

}  // namespace

Reservation::Reservation(DataFolder* folder, Ballast* ballast)
    : folder_(folder), ballast_(ballast) {
  if (const auto space = folder_->Space(); space.ok()) FillBallast(space->free_bytes);
}

void Reservation::FillBallast(uint64_t free_bytes) {
  if (ballast_ != nullptr && free_bytes > kIndexBytes) ballast_->Take(free_bytes - kIndexBytes);
}

absl::Status Reservation::Reserve(uint64_t part_bytes) {
  const uint64_t bytes = WithAllowance(part_bytes);
  MutexLock lock(mutex_);
  while (true) {
    CKPT_ASSIGN_OR_RETURN(const DiskSpace space, folder_->Space());
    const uint64_t keep_free = std::min(kKeepFreeBytes, space.total_bytes / 100);
    const uint64_t taken = promised_ + keep_free;
    const uint64_t free = space.free_bytes > taken ? space.free_bytes - taken : 0;
    if (bytes <= free) {
      FillBallast(free - bytes);
      break;
    }
    if (allocating_ == 0) {
      return absl::ResourceExhaustedError(
          absl::StrCat("no disk space for the part: it needs ", PrintByteSize(bytes), ", ",
                       PrintByteSize(free), " are free in ", folder_->path(), " (",
                       PrintByteSize(promised_), " are promised to other parts)"));
    }
    allocated_.Wait(mutex_);
  }
  promised_ += bytes;
  return absl::OkStatus();
}

absl::Status Reservation::Allocate(uint64_t part_bytes,
                                   absl::FunctionRef<absl::Status()> allocate) {
  {
    MutexLock lock(mutex_);
    ++allocating_;
  }
  const absl::Status allocated = allocate();
  MutexLock lock(mutex_);
  --allocating_;
  promised_ -= std::min(promised_, WithAllowance(part_bytes));
  allocated_.NotifyAll();
  return allocated;
}

void Reservation::Release(uint64_t part_bytes) {
  MutexLock lock(mutex_);
  promised_ -= std::min(promised_, WithAllowance(part_bytes));
}

}  // namespace ckpt
