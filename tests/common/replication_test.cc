#include "common/replication.h"

#include <gtest/gtest.h>

#include <map>

#include "common/ids.h"
#include "common/layout.h"
#include "random_boxes.h"
#include "sample_layout.h"

namespace ckpt {
namespace {

uint64_t Bytes(const v1::Leaf& leaf, const Box& box) {
  return box.volume() * DTypeBytes(leaf.dtype());
}

// As a layout shows them, whether or not one could hold them. Views into `leaves`, and into the
// keys, which are printed.
struct Shown {
  explicit Shown(absl::Span<const v1::Leaf> leaves) {
    for (const v1::Leaf& leaf : leaves) keys.push_back(PrintKey(leaf.key()));
    for (size_t i = 0; i < leaves.size(); ++i) {
      views.push_back({.printed_key = keys[i],
                       .top_level = "",
                       .kind = leaves[i].kind(),
                       .placement = leaves[i].placement(),
                       .dtype = leaves[i].dtype(),
                       .shape = ShapeOf(leaves[i]),
                       .alias_of_plus_one = leaves[i].alias_of_plus_one()});
    }
  }
  std::vector<std::string> keys;
  std::vector<LeafView> views;
};

std::vector<Box> BoxesOf(absl::Span<const v1::Leaf> leaves, uint32_t member, uint32_t members) {
  return ReplicatedBoxes(Shown(leaves).views, member, members);
}

std::string DigestOf(absl::Span<const v1::Leaf> leaves) {
  return ReplicatedDigest(Shown(leaves).views);
}

std::vector<v1::Leaf> RandomLeaves(RandomBoxes& random) {
  std::vector<v1::Leaf> leaves;
  const uint64_t count = random.Number(0, 30);
  for (uint64_t i = 0; i < count; ++i) {
    v1::Leaf leaf =
        TensorNamed("k" + std::to_string(random.Number(0, 1000)) + "." + std::to_string(i),
                    static_cast<DType>(random.Number(1, v1::DType_MAX)), {});
    const uint64_t rank = random.Number(0, 3);
    for (uint64_t d = 0; d < rank; ++d)
      leaf.add_shape(random.Number(0, 9) == 0 ? 0 : random.Number(1, 40));
    leaves.push_back(leaf);
  }
  return leaves;
}

// The rule's promise: whatever the tensors and however many members, each tensor is written exactly
// once, and nobody writes much more than a fair part.
TEST(ReplicationTest, BoxesOfAllMembersTileEveryTensor) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(seed);
    RandomBoxes random(seed);
    const std::vector<v1::Leaf> leaves = RandomLeaves(random);
    const uint32_t members = static_cast<uint32_t>(random.Number(1, 9));
    std::vector<std::vector<Box>> boxes(leaves.size());
    uint64_t total = 0, row_bytes_max = 0;
    for (const v1::Leaf& leaf : leaves) {
      const Box whole = WholeOf(leaf);
      total += Bytes(leaf, whole);
      if (whole.empty()) continue;
      uint64_t rows = 1;
      for (size_t d = 0; d < whole.rank() && rows == 1; ++d) rows = whole.extent[d];
      row_bytes_max = std::max(row_bytes_max, Bytes(leaf, whole) / rows);
    }
    for (uint32_t member = 0; member < members; ++member) {
      const std::vector<Box> mine = BoxesOf(leaves, member, members);
      ASSERT_EQ(mine.size(), leaves.size());
      uint64_t bytes = 0;
      for (size_t i = 0; i < leaves.size(); ++i) {
        if (mine[i].empty()) continue;
        boxes[i].push_back(mine[i]);
        bytes += Bytes(leaves[i], mine[i]);
      }
      ASSERT_LE(bytes, total / members + row_bytes_max + 1) << "even, to within a row";
    }
    for (size_t i = 0; i < leaves.size(); ++i) {
      const Box whole = WholeOf(leaves[i]);
      const absl::Status status = CheckTiling(boxes[i], whole);
      ASSERT_TRUE(status.ok()) << status;
    }
  }
}

TEST(ReplicationTest, ScalarsAreWrittenByExactlyOneMember) {
  const std::vector<v1::Leaf> leaves = {TensorNamed("a", v1::DTYPE_F32, {}),
                                        TensorNamed("b", v1::DTYPE_F32, {}),
                                        TensorNamed("c", v1::DTYPE_F32, {1, 1})};
  for (size_t i = 0; i < leaves.size(); ++i) {
    int writers = 0;
    for (uint32_t member = 0; member < 8; ++member) {
      const Box box = BoxesOf(leaves, member, 8)[i];
      if (box.empty()) continue;
      ++writers;
      EXPECT_EQ(box, WholeOf(leaves[i]));
    }
    EXPECT_EQ(writers, 1);
  }
}

TEST(ReplicationTest, OnlyReplicatedTensorsThatAreNoAlias) {
  std::vector<v1::Leaf> leaves = {
      TensorNamed("a", v1::DTYPE_F32, {4}), TensorNamed("b", v1::DTYPE_F32, {4}),
      TensorNamed("c", v1::DTYPE_F32, {4}, v1::PLACEMENT_SHARDED),
      TensorNamed("d", v1::DTYPE_F32, {4}, v1::PLACEMENT_PER_RANK), ValueNamed("e")};
  leaves[1].set_alias_of_plus_one(1);
  leaves[4].set_placement(v1::PLACEMENT_REPLICATED);
  const std::vector<Box> boxes = BoxesOf(leaves, 0, 1);
  EXPECT_EQ(boxes[0], Box::Whole({4}));
  for (size_t i = 1; i < leaves.size(); ++i) EXPECT_TRUE(boxes[i].empty()) << i;
}

TEST(ReplicationTest, LongStringsAreWrittenByMemberZero) {
  std::vector<v1::Leaf> leaves = {TensorNamed("text", v1::DTYPE_U8, {9000})};
  leaves[0].set_kind(v1::LEAF_KIND_STRING_BYTES);
  EXPECT_EQ(BoxesOf(leaves, 0, 2)[0], Box::Whole({9000}));
  EXPECT_TRUE(BoxesOf(leaves, 1, 2)[0].empty());
}

TEST(ReplicationTest, DoesNotDependOnTheOrderOfTheLeaves) {
  RandomBoxes random(5);
  std::vector<v1::Leaf> leaves = RandomLeaves(random);
  std::map<std::string, Box> expected;
  std::vector<Box> boxes = BoxesOf(leaves, 1, 3);
  for (size_t i = 0; i < leaves.size(); ++i) expected[PrintKey(leaves[i].key())] = boxes[i];
  const std::string digest = DigestOf(leaves);
  std::shuffle(leaves.begin(), leaves.end(), random.generator());
  boxes = BoxesOf(leaves, 1, 3);
  for (size_t i = 0; i < leaves.size(); ++i)
    EXPECT_EQ(expected[PrintKey(leaves[i].key())], boxes[i]);
  EXPECT_EQ(DigestOf(leaves), digest);
}

TEST(ReplicationTest, SplitsWhereTheHeaderSays) {
  // 3 rows of 8 bytes and 5 rows of 8 bytes; two members; the cut is at byte 32 of 64.
  const std::vector<v1::Leaf> leaves = {TensorNamed("a", v1::DTYPE_F32, {3, 2}),
                                        TensorNamed("b", v1::DTYPE_F32, {1, 5, 2})};
  EXPECT_EQ(BoxesOf(leaves, 0, 2)[0], Box::Whole({3, 2}));
  EXPECT_EQ(BoxesOf(leaves, 0, 2)[1], (Box{{0, 0, 0}, {1, 1, 2}}));
  EXPECT_TRUE(BoxesOf(leaves, 1, 2)[0].empty());
  EXPECT_EQ(BoxesOf(leaves, 1, 2)[1], (Box{{0, 1, 0}, {1, 4, 2}}));
}

TEST(ReplicationTest, HostileShapesDoNotOverflow) {
  const std::vector<v1::Leaf> leaves = {TensorNamed("a", v1::DTYPE_F64, {uint64_t{1} << 62, 2}),
                                        TensorNamed("b", v1::DTYPE_F64, {uint64_t{1} << 62, 2}),
                                        TensorNamed("c", static_cast<DType>(99), {3})};
  for (uint32_t member = 0; member < 3; ++member) BoxesOf(leaves, member, 3);
}

TEST(ReplicationTest, ReplicasOfABoxTileIt) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(seed);
    RandomBoxes random(seed);
    const Box box = random.Inside(random.Shape(random.Number(1, 3), 20));
    const uint32_t count = static_cast<uint32_t>(random.Number(1, 30));
    std::vector<Box> boxes;
    for (uint32_t i = 0; i < count; ++i) {
      const Box mine = ReplicaBox(box, i, count);
      if (!mine.empty()) boxes.push_back(mine);
    }
    const absl::Status status = CheckTiling(boxes, box);
    ASSERT_TRUE(status.ok()) << status;
  }
  int writers = 0;
  for (uint32_t i = 0; i < 5; ++i) writers += ReplicaBox(Box{}, i, 5).empty() ? 0 : 1;
  EXPECT_EQ(writers, 1);
  EXPECT_TRUE(ReplicaBox({{3}, {0}}, 0, 2).empty());
}

TEST(ReplicationTest, DigestSeesEverythingThatRanksMustAgreeOn) {
  const auto digest_of = [](const v1::Layout& layout) {
    return DigestOf(std::vector<v1::Leaf>(layout.leaves().begin(), layout.leaves().end()));
  };
  const v1::Layout layout = SampleLayout();
  const std::string digest = digest_of(layout);
  EXPECT_EQ(digest.size(), 32u);
  EXPECT_EQ(internal::Hex(digest),
            "50bdf7f5717eafadb8106fe9e04d7f55ed2eb5b5967fd83b0acbbdd6204c8efb");
  EXPECT_EQ(PartLayout::FromProto(layout).value()->replicated_digest(), digest);
  auto edited = [&](auto edit) {
    v1::Layout other = layout;
    edit(other);
    return digest_of(other);
  };
  EXPECT_NE(edited([](auto& l) { l.mutable_leaves(0)->set_shape(0, 5); }), digest);
  EXPECT_NE(edited([](auto& l) { l.mutable_leaves(0)->set_dtype(v1::DTYPE_I32); }), digest);
  EXPECT_NE(edited([](auto& l) { *l.mutable_leaves(0)->mutable_key() = MakeKey({"other"}); }),
            digest);
  EXPECT_NE(edited([](auto& l) { l.mutable_leaves(5)->set_alias_of_plus_one(0); }), digest);
  EXPECT_NE(edited([](auto& l) { l.mutable_leaves(0)->set_placement(v1::PLACEMENT_SHARDED); }),
            digest);
  EXPECT_EQ(edited([](auto& l) { l.mutable_leaves(2)->set_shape(0, 99); }), digest)
      << "sharded leaves are not part of it";
  EXPECT_EQ(edited([](auto& l) { l.clear_shards(); }), digest);
}

}  // namespace
}  // namespace ckpt
