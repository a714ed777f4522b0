#include "server/storage/ballast.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/storage/names.h"

namespace ckpt {
namespace {

// RocksDB takes batches again, after one that did not fit, once there is room for a memtable, which
// is 16 MiB (index/open.cc).
constexpr uint64_t kBytesMax = 32 << 20;
constexpr uint64_t kPartOfDisk = 16;
constexpr uint64_t kBytesMin = 256 << 10;  // to open it takes less

}  // namespace

Ballast::Ballast(DataFolder* folder)
    : folder_(folder), path_(absl::StrCat(folder->path(), "/", names::kBallast)) {
  if (auto file = folder_->files()->OpenRead(path_); file.ok()) bytes_ = (*file)->size();
}

void Ballast::Take(uint64_t room) {
  MutexLock lock(mutex_);
  if (bytes_ >= kBytesMax) return;
  const auto space = folder_->Space();
  if (!space.ok()) return;
  const uint64_t wanted = std::min({kBytesMax, space->total_bytes / kPartOfDisk, bytes_ + room});
  if (wanted < bytes_ + kBytesMin) return;
  folder_->files()->Unlink(path_).IgnoreError();
  bytes_ = folder_->files()->Create(path_, {.preallocate_bytes = wanted}).ok() ? wanted : 0;
}

uint64_t Ballast::GiveUp() {
  MutexLock lock(mutex_);
  if (bytes_ == 0 || !folder_->files()->Unlink(path_).ok()) return 0;
  return std::exchange(bytes_, 0);
}

uint64_t Ballast::bytes() {
  MutexLock lock(mutex_);
  return bytes_;
}

}  // namespace ckpt
