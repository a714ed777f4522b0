// The memory tier as a source of good blocks: damaged data files on disk are repaired from it.
#ifndef CKPT_SERVER_STAGING_MEMORY_BLOCKS_H_
#define CKPT_SERVER_STAGING_MEMORY_BLOCKS_H_

#include <memory>

#include "server/persist/repair_part.h"
#include "server/staging/memory_copies.h"

namespace ckpt {

// Thread-safe. `copies` must outlive it. A part's memory is pinned as long as what Open answered
// lives.
class MemoryBlocks : public BlockSource {
 public:
  explicit MemoryBlocks(MemoryCopies* copies) : copies_(copies) {}
  std::unique_ptr<PartSource> Open(CheckpointUid uid, uint32_t rank) override;

 private:
  MemoryCopies* const copies_;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_STAGING_MEMORY_BLOCKS_H_
