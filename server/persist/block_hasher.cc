#include "server/persist/block_hasher.h"

#include <algorithm>
#include <cassert>

#include "common/limits.h"

namespace ckpt {

BlockHasher::BlockHasher(const PartLayout* layout, bool compute)
    : layout_(layout), compute_(compute) {
  hashes_.reserve(layout->block_count());
}

void BlockHasher::Update(uint64_t offset, const char* data, uint64_t bytes) {
  while (bytes > 0) {
    const PartLayout::ShardPlace& shard = layout_->shards()[shard_];
    assert(shard.part_offset + at_ == offset);
    const uint64_t block_begin = at_ / kHashBlockBytes * kHashBlockBytes;
    const uint64_t block_end = std::min(block_begin + kHashBlockBytes, shard.length);
    const uint64_t step = std::min(bytes, block_end - at_);
    const bool completes = at_ + step == block_end;
    if (!compute_) {
      if (completes) hashes_.push_back(0);
    } else if (completes && !partial_) {
      hashes_.push_back(Xxh3(data, step));
    } else {
      if (!partial_) stream_.Reset();
      stream_.Update(data, step);
      partial_ = !completes;
      if (completes) hashes_.push_back(stream_.Digest());
    }
    at_ += step;
    offset += step;
    data += step;
    bytes -= step;
    if (at_ == shard.length) {
      ++shard_;
      at_ = 0;
    }
  }
}

}  // namespace ckpt
