// The threads that write: shared by all parts at work. A write owns its buffer until it is done.
// Thread-safe.
//
// The queue needs no bound of its own: every entry holds a buffer, and buffers are bounded.
#ifndef CKPT_SERVER_PERSIST_WRITER_POOL_H_
#define CKPT_SERVER_PERSIST_WRITER_POOL_H_

#include <cstdint>
#include <deque>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "common/mutex.h"
#include "server/persist/write_buffers.h"
#include "server/storage/file_system.h"

namespace ckpt {

// The writes of one part: counts those in flight and keeps the first error.
class PartWrites {
 public:
  WriteBuffers::Holder& holder() { return holder_; }
  // Waits until none is in flight and says how they went.
  absl::Status Drain();
  absl::Status status();

 private:
  friend class WriterPool;
  void Begin();
  void End(const absl::Status& status);

  WriteBuffers::Holder holder_;
  Mutex mutex_;
  CondVar changed_;
  size_t in_flight_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

class WriterPool {
 public:
  WriterPool(int threads, WriteBuffers* buffers);
  ~WriterPool();  // ends the threads; no write may be in flight

  // Writes `bytes` of `buffer` at `offset` of `file`, then gives the buffer back. Once a write of
  // the part has failed, its others are dropped. `writes` and `file` must live until Drain.
  void Write(PartWrites* writes, WritableFile* file, uint64_t offset, char* buffer, size_t bytes);

 private:
  struct Entry {
    PartWrites* writes;
    WritableFile* file;
    uint64_t offset;
    char* buffer;
    size_t bytes;
  };
  void Work();

  WriteBuffers* const buffers_;
  Mutex mutex_;
  CondVar arrived_;
  std::deque<Entry> queue_ ABSL_GUARDED_BY(mutex_);
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_PERSIST_WRITER_POOL_H_
