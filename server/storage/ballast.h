// Room that ckptd has taken for itself, for the day when others fill its disk: a file in the data
// folder that is allocated and never written. An index that does not fit any more is opened, and
// checkpoints are deleted, with the room that it gives up. Anybody may remove it by hand for that.
// Thread-safe.
//
// The idea is that of CockroachDB's ballast file ("Automatic ballast files" in its documentation);
// there an operator removes it.
#ifndef CKPT_SERVER_STORAGE_BALLAST_H_
#define CKPT_SERVER_STORAGE_BALLAST_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/mutex.h"
#include "server/storage/data_folder.h"

namespace ckpt {

class Ballast {
 public:
  explicit Ballast(DataFolder* folder);

  // What it takes on the disk now; what an earlier process took counts.
  uint64_t bytes() const;
  // The disk's, as if there were no ballast.
  absl::StatusOr<DiskSpace> Space() const;
  // Grows or shrinks it to `room` bytes, or to as much as it may ever be. What the disk refuses is
  // asked for again the next time.
  void Fit(uint64_t room);
  // Returns how much has become free; 0: there was none. Where that is enough for the index to go
  // on with, the ballast does not grow for as long as `rest`, so that the index finds it.
  uint64_t GiveUp(absl::Duration rest = absl::ZeroDuration());
  bool resting() const;
  void EndRest();  // the index has found it

 private:
  DataFolder* const folder_;
  const std::string path_;
  const uint64_t bytes_max_;
  mutable Mutex mutex_;
  absl::Time rests_until_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
};

}  // namespace ckpt

#endif  // CKPT_SERVER_STORAGE_BALLAST_H_
