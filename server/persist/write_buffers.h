// The buffers between reading staging and writing to disk: all of one size, 4096-aligned, recycled
// for ever, because touching fresh pages is many times slower than writing them. Thread-safe.
//
// Bound: bytes_max. When all are taken, Take waits for a write to end. A part that holds none is
// always given one (allocated beyond the bound and freed on return), so that parts whose clients
// are slow can hold up nobody else. One part holds at most per_part_max: more would only run ahead
// of the disk, through memory that is in no cache any more.
#ifndef CKPT_SERVER_PERSIST_WRITE_BUFFERS_H_
#define CKPT_SERVER_PERSIST_WRITE_BUFFERS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/mutex.h"

namespace ckpt {

class WriteBuffers {
 public:
  // How many buffers a part holds. Belongs to the part, guarded by the buffers' own lock.
  class Holder {
    friend class WriteBuffers;
    size_t held_ = 0;
  };

  WriteBuffers(size_t buffer_bytes, uint64_t bytes_max, size_t per_part_max);
  ~WriteBuffers();  // all must be back
  WriteBuffers(const WriteBuffers&) = delete;
  WriteBuffers& operator=(const WriteBuffers&) = delete;

  size_t buffer_bytes() const { return buffer_bytes_; }
  char* Take(Holder& holder);  // null when memory is out
  void GiveBack(Holder& holder, char* buffer);

 private:
  char* Allocate() const;
  void Free(char* buffer) const;

  const size_t buffer_bytes_;
  const size_t count_max_;
  const size_t per_part_max_;
  Mutex mutex_;
  CondVar returned_;
  std::vector<char*> free_ ABSL_GUARDED_BY(mutex_);  // last in, first out: the warmest
  size_t count_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_PERSIST_WRITE_BUFFERS_H_
