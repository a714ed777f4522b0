// XXH3-64 of each 1 MiB block of each shard, from a part's bytes as they pass by. Blocks are
// counted from the shard's start, so they fall anywhere in a buffer and across its edges. Not
// thread-safe.
#ifndef CKPT_SERVER_PERSIST_BLOCK_HASHER_H_
#define CKPT_SERVER_PERSIST_BLOCK_HASHER_H_

#include <cstdint>
#include <vector>

#include "common/digest.h"
#include "common/layout.h"

namespace ckpt {

class BlockHasher {
 public:
  // `compute` false: every hash is 0, and nothing is spent on it.
  explicit BlockHasher(const PartLayout* layout, bool compute = true);
  // The part's next bytes, at part offset `offset`: ascending, every byte of every shard once.
  // Bytes between data files are skipped by the caller.
  void Update(uint64_t offset, const char* data, uint64_t bytes);
  // One for each block; complete once every shard has passed.
  const std::vector<uint64_t>& hashes() const { return hashes_; }

 private:
  const PartLayout* const layout_;
  const bool compute_;
  std::vector<uint64_t> hashes_;
  size_t shard_ = 0;      // the next byte belongs to this one
  uint64_t at_ = 0;       // bytes of it that have passed
  bool partial_ = false;  // stream_ holds the beginning of a block
  Xxh3Stream stream_;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_PERSIST_BLOCK_HASHER_H_
