// Where the bytes of a part are read from when it is made durable. staging/ implements it over
// tmpfs files and rings.
#ifndef CKPT_SERVER_PERSIST_PART_SOURCE_H_
#define CKPT_SERVER_PERSIST_PART_SOURCE_H_

#include <cstdint>

#include "absl/status/status.h"

namespace ckpt {

class PartSource {
 public:
  virtual ~PartSource() = default;
  // Copies part bytes [offset, offset + bytes) to `out` by pread. Blocks until the client has
  // written them (a ring, or a part that is persisted behind its writer). DATA_LOSS on a short
  // read; ABORTED when the part was aborted meanwhile. Called in ascending order, once for each
  // byte.
  virtual absl::Status Read(uint64_t offset, void* out, uint64_t bytes) = 0;
  // Part offsets below this have been read: a ring hands the slots back to the client.
  virtual void Consumed(uint64_t offset) = 0;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_PERSIST_PART_SOURCE_H_
