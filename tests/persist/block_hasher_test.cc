#include "server/persist/block_hasher.h"

#include <algorithm>

#include "common/limits.h"
#include "gtest/gtest.h"
#include "tests/persist/persist_fixture.h"

namespace ckpt {
namespace {

std::vector<uint64_t> HashesInPieces(const PartLayout& layout, const std::string& bytes,
                                     uint64_t piece) {
  BlockHasher hasher(&layout);
  for (uint64_t at = 0; at < bytes.size(); at += piece) {
    hasher.Update(at, bytes.data() + at, std::min<uint64_t>(piece, bytes.size() - at));
  }
  return hasher.hashes();
}

TEST(BlockHasher, CountsBlocksFromEachShardsStartWhateverThePieces) {
  const auto layout = LayoutOfSizes({3 * kHashBlockBytes + 17, 5, kHashBlockBytes, 1, 2000003});
  const std::string bytes = PartBytes(*layout, 7);
  std::vector<uint64_t> expected;
  for (const PartLayout::ShardPlace& shard : layout->shards()) {
    EXPECT_EQ(shard.first_block, expected.size());
    for (uint64_t at = 0; at < shard.length; at += kHashBlockBytes) {
      expected.push_back(Xxh3(bytes.data() + shard.part_offset + at,
                              std::min(kHashBlockBytes, shard.length - at)));
    }
  }
  ASSERT_EQ(expected.size(), layout->block_count());
  for (const uint64_t piece : {uint64_t{999}, uint64_t{4096}, kHashBlockBytes - 1, kHashBlockBytes,
                               2 * kHashBlockBytes + 3, uint64_t{64} << 20}) {
    EXPECT_EQ(HashesInPieces(*layout, bytes, piece), expected) << piece;
  }
}

}  // namespace
}  // namespace ckpt
