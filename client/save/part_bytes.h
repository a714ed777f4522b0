// Where the bytes of a part come from, addressed by part offset.
#ifndef CKPT_CLIENT_SAVE_PART_BYTES_H_
#define CKPT_CLIENT_SAVE_PART_BYTES_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "client/state/part.h"
#include "client/state/plan_cache.h"

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

 private:
  struct Snapshot {
    uint32_t shard = 0;
    std::unique_ptr<std::byte[]> bytes;
  };
  void CopyShard(size_t shard, uint64_t begin, uint64_t bytes, std::byte* out,
                 bool streaming) const;

  const Part part_;
  const std::shared_ptr<const PartStructure> structure_;
  std::vector<Snapshot> snapshots_;            // ascending by shard
  std::vector<const std::byte*> snapshot_of_;  // by shard; empty when there are none
};

}  // namespace ckpt

#endif  // CKPT_CLIENT_SAVE_PART_BYTES_H_
