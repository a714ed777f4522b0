// Disk space promised to parts that are not durable yet. Thread-safe.
//
// What is promised is the part's bytes and an allowance for its headers and manifest; beside all
// promises a little stays free, so that the index and the manifests of what is already accepted can
// still be written. It is a promise against ckptd's own parts: another program may fill the disk
// meanwhile, which then fails only the part that runs into it.
#ifndef CKPT_SERVER_PERSIST_RESERVATION_H_
#define CKPT_SERVER_PERSIST_RESERVATION_H_

#include <cstdint>

#include "absl/status/status.h"
#include "common/mutex.h"
#include "server/storage/data_folder.h"

namespace ckpt {

class Reservation {
 public:
  explicit Reservation(DataFolder* folder) : folder_(folder) {}
  absl::Status Reserve(uint64_t part_bytes);  // RESOURCE_EXHAUSTED
  // The part's blocks are allocated (the disk's free space has fallen by them), or never will be.
  void Release(uint64_t part_bytes);

 private:
  DataFolder* const folder_;
  Mutex mutex_;
  uint64_t promised_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_PERSIST_RESERVATION_H_
