// The memory tier as a place to restore from: which committed parts are still there, pinned while
// somebody reads them.
#ifndef CKPT_SERVER_STAGING_MEMORY_COPIES_H_
#define CKPT_SERVER_STAGING_MEMORY_COPIES_H_

#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "common/ids.h"

namespace ckpt {

// While it lives the file is not recycled. Part offset o lies at file offset o (rings are never
// memory copies).
class MemoryPin {
 public:
  virtual ~MemoryPin() = default;
  virtual FileId file_id() const = 0;
  virtual uint64_t length() const = 0;
  virtual int read_only_descriptor() const = 0;  // owned by the pin
};

class MemoryCopies {
 public:
  virtual ~MemoryCopies() = default;
  // Null where that part of a COMMITTED checkpoint is not (or no longer) in memory.
  virtual std::unique_ptr<MemoryPin> Pin(CheckpointUid uid, uint32_t rank) = 0;
  virtual bool Has(CheckpointUid uid, uint32_t rank) const = 0;
  // The checkpoint was deleted: give its pages back when nothing references them.
  virtual void Drop(CheckpointUid uid) = 0;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_STAGING_MEMORY_COPIES_H_
