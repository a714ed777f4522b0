// Where the bytes of a part come from, addressed by part offset.
#ifndef CKPT_CLIENT_SAVE_PART_BYTES_H_
#define CKPT_CLIENT_SAVE_PART_BYTES_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "client/state/part.h"
#include "client/state/plan_cache.h"
#include "client/transport/save_stream.h"

namespace ckpt {

// Immutable; CopyRange may be called from several threads.
class PartBytes {
 public:
  // Keeps `part` (and so its keep_alive). With `snapshot_early`, leaves marked copy_early are
  // copied here and now.
  PartBytes(Part part, std::shared_ptr<const PartStructure> structure, bool snapshot_early);

  const PartLayout& layout() const { return *structure_->layout; }
  uint64_t part_bytes() const { return structure_->layout->part_bytes(); }
  // Writes the part's bytes [begin, begin + bytes) to `out`, zeros between data files included,
  // with non-temporal stores where `streaming` is set. The caller fences.
  void CopyRange(uint64_t begin, uint64_t bytes, std::byte* out, bool streaming) const;

  // The hash of each block (layout.h) that begins in [begin, begin + bytes), as it lies in the
  // caller's memory, to its place in `hashes`.
  void HashBlocks(uint64_t begin, uint64_t bytes, uint64_t* hashes) const;

  // The first of the bytes [begin, begin + bytes) that lie together in memory: where, or null
  // where only CopyRange has them, and how many.
  DataSource::Piece PieceAt(uint64_t begin, uint64_t bytes) const;

 private:
  struct Snapshot {
    uint32_t shard = 0;
    std::unique_ptr<std::byte[]> bytes;
  };
  // Where the shard's bytes lie; null where the leaf computes them.
  const std::byte* MemoryOf(size_t shard) const;
  // The first shard that ends beyond `offset`, or lies beyond it.
  size_t ShardAt(uint64_t offset) const;
  void CopyShard(size_t shard, uint64_t begin, uint64_t bytes, std::byte* out,
                 bool streaming) const;

  const Part part_;
  const std::shared_ptr<const PartStructure> structure_;
  std::vector<Snapshot> snapshots_;            // ascending by shard
  std::vector<const std::byte*> snapshot_of_;  // by shard; empty when there are none
};

}  // namespace ckpt

#endif  // CKPT_CLIENT_SAVE_PART_BYTES_H_
