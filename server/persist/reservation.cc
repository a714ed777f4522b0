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

absl::StatusOr<Reservation::Room> Reservation::Look() const {
  Room room;
  if (ballast_ != nullptr) room.bytes = ballast_->bytes();
  CKPT_ASSIGN_OR_RETURN(const DiskSpace space, folder_->Space());
  room.bytes += space.free_bytes;
  room.keep_free = std::min(kKeepFreeBytes, space.total_bytes / 100);
  return room;
}

// On a disk of some GB and more the ballast lies within what is kept free, and shrinks for no part.
void Reservation::FitBallast(uint64_t room) {
  if (ballast_ == nullptr) return;
  const uint64_t taken = promised_ + kIndexBytes;
  ballast_->Fit(room > taken ? room - taken : 0);
}

void Reservation::FitBallast() {
  MutexLock lock(mutex_);
  if (const absl::StatusOr<Room> room = Look(); room.ok()) FitBallast(room->bytes);
}

absl::Status Reservation::Reserve(uint64_t part_bytes) {
  const uint64_t bytes = WithAllowance(part_bytes);
  MutexLock lock(mutex_);
  while (true) {
    CKPT_ASSIGN_OR_RETURN(const Room room, Look());
    const uint64_t taken = promised_ + room.keep_free;
    const uint64_t free = room.bytes > taken ? room.bytes - taken : 0;
    if (bytes <= free) {
      promised_ += bytes;
      FitBallast(room.bytes);
      return absl::OkStatus();
    }
    if (allocating_ == 0) {
      return absl::ResourceExhaustedError(
          absl::StrCat("no disk space for the part: it needs ", PrintByteSize(bytes), ", ",
                       PrintByteSize(free), " are free in ", folder_->path(), " (",
                       PrintByteSize(promised_), " are promised to other parts)"));
    }
    allocated_.Wait(mutex_);
  }
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
