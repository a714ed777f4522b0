#include "server/storage/ballast.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/storage/names.h"

namespace ckpt {
namespace {

constexpr uint64_t kBytesMax = 32 << 20;
// RocksDB takes batches again, after one that did not fit, once there is room for a memtable
// (index/open.cc).
constexpr uint64_t kIndexGoesOn = 16 << 20;
constexpr uint64_t kPartOfDisk = 16;
constexpr uint64_t kStep = 256 << 10;  // less is not worth a call; to open the index takes less

uint64_t BytesMax(DataFolder& folder) {
  const auto space = folder.Space();
  return space.ok() ? std::min(kBytesMax, space->total_bytes / kPartOfDisk) : 0;
}

}  // namespace

Ballast::Ballast(DataFolder* folder)
    : folder_(folder),
      path_(absl::StrCat(folder->path(), "/", names::kBallast)),
      bytes_max_(BytesMax(*folder)) {}

// Not its length: a file system that knows no fallocate allocates nothing.
uint64_t Ballast::bytes() const {
  struct stat file;
  if (lstat(path_.c_str(), &file) != 0 || !S_ISREG(file.st_mode)) return 0;
  return static_cast<uint64_t>(file.st_blocks) * 512;
}

absl::StatusOr<DiskSpace> Ballast::Space() const {
  MutexLock lock(mutex_);
  absl::StatusOr<DiskSpace> space = folder_->Space();
  if (space.ok()) space->free_bytes += bytes();
  return space;
}

void Ballast::Fit(uint64_t room) {
  MutexLock lock(mutex_);
  const uint64_t now = bytes();
  const uint64_t wanted = std::min(room, bytes_max_) / kStep * kStep;
  const bool grows = wanted >= now + kStep;
  if (wanted == 0 && now > 0) unlink(path_.c_str());
  if (wanted == 0 || (!grows && wanted >= now) || (grows && absl::Now() < rests_until_)) return;
  const int file = open(path_.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (file < 0) return;
  const bool fits = grows ? fallocate(file, 0, 0, static_cast<off_t>(wanted)) == 0
                          : ftruncate(file, static_cast<off_t>(wanted)) == 0;
  // A disk that had only a part of it may have given that.
  [[maybe_unused]] const bool back = fits || ftruncate(file, static_cast<off_t>(now)) == 0;
  close(file);
}

uint64_t Ballast::GiveUp(absl::Duration rest) {
  MutexLock lock(mutex_);
  const uint64_t freed = bytes();
  if (freed == 0 || unlink(path_.c_str()) != 0) return 0;
  const absl::StatusOr<DiskSpace> space = folder_->Space();
  if (space.ok() && space->free_bytes >= kIndexGoesOn) rests_until_ = absl::Now() + rest;
  return freed;
}

bool Ballast::resting() const {
  MutexLock lock(mutex_);
  return absl::Now() < rests_until_;
}

void Ballast::EndRest() {
  MutexLock lock(mutex_);
  rests_until_ = absl::InfinitePast();
}

}  // namespace ckpt
