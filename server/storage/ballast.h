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

#include "common/mutex.h"
#include "server/storage/data_folder.h"

namespace ckpt {

class Ballast {
 public:
  // What an earlier process took is still there.
  explicit Ballast(DataFolder* folder);

  // Takes it, or more of it, from `room` bytes that nobody else was promised; as much as there is.
  // A disk that refuses is asked again the next time.
  void Take(uint64_t room);
  // Returns how much has become free; 0: there was none.
  uint64_t GiveUp();
  uint64_t bytes();

 private:
  DataFolder* const folder_;
  const std::string path_;
  Mutex mutex_;
  uint64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_STORAGE_BALLAST_H_
