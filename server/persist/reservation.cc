#include "server/persist/reservation.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/byte_size.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

constexpr uint64_t kAllowanceBytes = 4 << 20;
constexpr uint64_t kKeepFreeBytes = 64 << 20;
constexpr uint64_t kLittleBytes = 1 << 20;

uint64_t WithAllowance(uint64_t part_bytes) {
  return part_bytes + part_bytes / 128 + kAllowanceBytes;
}

uint64_t KeepFree(const DiskSpace& space) {
  return std::min(kKeepFreeBytes, space.total_bytes / 100);
}

}  // namespace

absl::StatusOr<DiskSpace> Reservation::Space() const {
  return ballast_ != nullptr ? ballast_->Space() : folder_->Space();
}

// While a part is on its way all that is kept free is free, for its manifest. Then the ballast has
// it, but for a little.
void Reservation::FitBallast() {
  if (ballast_ == nullptr || allocating_ > 0) return;  // what is allocated so far counts twice
  const absl::StatusOr<DiskSpace> space = Space();
  if (!space.ok()) return;
  const uint64_t taken = parts_ > 0 ? promised_ + KeepFree(*space) : kLittleBytes;
  ballast_->Fit(space->free_bytes > taken ? space->free_bytes - taken : 0);
}

absl::Status Reservation::Reserve(uint64_t part_bytes) {
  const uint64_t bytes = WithAllowance(part_bytes);
  MutexLock lock(mutex_);
  while (true) {
    CKPT_ASSIGN_OR_RETURN(const DiskSpace space, Space());
    const uint64_t taken = promised_ + KeepFree(space);
    const uint64_t free = space.free_bytes > taken ? space.free_bytes - taken : 0;
    if (bytes <= free) break;
    if (allocating_ == 0) {
      return absl::ResourceExhaustedError(
          absl::StrCat("no disk space for the part: it needs ", PrintByteSize(bytes), ", ",
                       PrintByteSize(free), " are free in ", folder_->path(), " (",
                       PrintByteSize(promised_), " are promised to other parts)"));
    }
    allocated_.Wait(mutex_);
  }
  promised_ += bytes;
  ++parts_;
  FitBallast();
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
  FitBallast();
  return allocated;
}

void Reservation::Release(uint64_t part_bytes) {
  MutexLock lock(mutex_);
  promised_ -= std::min(promised_, WithAllowance(part_bytes));
  End();
}

void Reservation::PartEnded() {
  MutexLock lock(mutex_);
  End();
}

void Reservation::End() {
  if (parts_ > 0) --parts_;
  FitBallast();
}

void Reservation::LookAtBallast() {
  MutexLock lock(mutex_);
  FitBallast();
}

}  // namespace ckpt
