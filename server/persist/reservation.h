// Disk space promised to parts that are not durable yet. Thread-safe.
//
// What is promised is the part's bytes and an allowance for its headers and manifest; beside all
// promises a little stays free, so that the index and the manifests of what is already accepted can
// still be written; the ballast is a part of that. It is a promise against ckptd's own parts:
// another program may fill the disk meanwhile, which then fails only the part that runs into it.
#ifndef CKPT_SERVER_PERSIST_RESERVATION_H_
#define CKPT_SERVER_PERSIST_RESERVATION_H_

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/mutex.h"
#include "server/storage/ballast.h"
#include "server/storage/data_folder.h"

namespace ckpt {

// What can be done about a disk that is full.
enum class DiskRoom {
  kNone,    // nothing: no policy deletes anything
  kNotNow,  // something may be deleted when what is under way has committed
  kMade,    // something was deleted
};

class Reservation {
 public:
  // `ballast`: null, or outlives it.
  Reservation(DataFolder* folder, Ballast* ballast) : folder_(folder), ballast_(ballast) {}
  absl::Status Reserve(uint64_t part_bytes);  // RESOURCE_EXHAUSTED
  // Allocates the part's blocks, and the promise ends whether that worked or not. Meanwhile its
  // room is counted twice: a Reserve that fails for that waits and looks again.
  absl::Status Allocate(uint64_t part_bytes, absl::FunctionRef<absl::Status()> allocate);
  // It is durable, or has failed. After Allocate.
  void PartEnded();
  // Or: its blocks will never be allocated.
  void Release(uint64_t part_bytes);
  // For every now and then: others may have taken or freed room.
  void LookAtBallast();

 private:
  absl::StatusOr<DiskSpace> Space() const;  // free or the ballast's
  void FitBallast() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void End() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  DataFolder* const folder_;
  Ballast* const ballast_;
  Mutex mutex_;
  CondVar allocated_;
  int allocating_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t promised_ ABSL_GUARDED_BY(mutex_) = 0;
  int parts_ ABSL_GUARDED_BY(mutex_) = 0;  // promised something, or at work
};

}  // namespace ckpt

#endif  // CKPT_SERVER_PERSIST_RESERVATION_H_
