#include <cstring>

#include "client/state/part.h"
#include "common/key.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ckpt {
namespace {

using ::testing::HasSubstr;

v1::Value Integer(int64_t value) {
  v1::Value proto;
  proto.set_integer(value);
  return proto;
}

float kData[4096];

Part PartOf(std::vector<PartLeaf> leaves, uint32_t rank = 0, uint32_t world_size = 1) {
  Part part;
  part.rank = rank;
  part.world_size = world_size;
  part.leaves = std::move(leaves);
  return part;
}

uint64_t ShardBytes(const PartPlan& plan) {
  uint64_t bytes = 0;
  for (const auto& shard : plan.layout->shards()) bytes += shard.length;
  return bytes;
}

TEST(PartPlan, ReplicatedTensorsAreSplitOverTheRanksAndPerRankOnesAreNot) {
  uint64_t replicated_bytes = 0;
  for (uint32_t rank = 0; rank < 4; ++rank) {
    const auto plan = MakePartPlan(
        PartOf({TensorLeaf(MakeKey({"w"}), v1::DTYPE_F32, {64, 16}, kData),
                TensorLeaf(MakeKey({"own"}), v1::DTYPE_F32, {8}, kData, v1::PLACEMENT_PER_RANK)},
               rank, 4));
    ASSERT_TRUE(plan.ok()) << plan.status();
    replicated_bytes += ShardBytes(*plan) - 8 * 4;
    for (size_t i = 0; i < plan->layout->shards().size(); ++i) {
      const ShardView shard = plan->layout->shard_boxes()[i];
      const PartPlan::ShardSource& source = plan->sources[i];
      EXPECT_EQ(source.leaf, shard.leaf);
      const uint64_t row = shard.leaf == 0 ? shard.offset[0] : 0;
      EXPECT_EQ(source.source_offset, row * 16 * 4);
    }
  }
  EXPECT_EQ(replicated_bytes, 64u * 16 * 4);
}

TEST(PartPlan, ReplicasOfABoxSplitIt) {
  uint64_t rows = 0;
  for (uint32_t replica = 0; replica < 3; ++replica) {
    PartLeaf leaf = ShardLeaf(MakeKey({"s"}), v1::DTYPE_F32, {16, 8}, Box{{4, 0}, {8, 8}}, kData);
    leaf.replica_index = replica;
    leaf.replica_count = 3;
    const auto plan = MakePartPlan(PartOf({leaf}, replica, 3));
    ASSERT_TRUE(plan.ok()) << plan.status();
    for (size_t i = 0; i < plan->layout->shards().size(); ++i) {
      const ShardView box = plan->layout->shard_boxes()[i];
      EXPECT_EQ(plan->sources[i].source_offset, (box.offset[0] - 4) * 8 * 4);
      rows += box.extent[0];
    }
  }
  EXPECT_EQ(rows, 8u);
}

TEST(PartPlan, ReplicatedValuesAreWrittenByOneRankOfTheShare) {
  for (uint32_t rank = 2; rank < 4; ++rank) {
    Part part = PartOf({ValueLeaf(MakeKey({"own"}), Integer(1)),
                        ValueLeaf(MakeKey({"all"}), Integer(2), v1::PLACEMENT_REPLICATED)},
                       rank, 8);
    part.share = {2, 3};
    const auto plan = MakePartPlan(part);
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_EQ(plan->values.entries_size(), rank == 2 ? 2 : 1);
  }
}

TEST(PartPlan, LongTextBecomesATensorThatOwnsItsBytes) {
  v1::Value text;
  text.set_text(std::string(5000, 'x') + "end");
  const PartLeaf leaf = ValueLeaf(MakeKey({"note"}), text);
  EXPECT_EQ(leaf.kind, v1::LEAF_KIND_STRING_BYTES);
  EXPECT_EQ(leaf.dtype, v1::DTYPE_U8);
  std::byte tail[3];
  leaf.copy(5000, 3, tail);
  EXPECT_EQ(std::memcmp(tail, "end", 3), 0);
  const auto plan = MakePartPlan(PartOf({leaf}));
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(ShardBytes(*plan), 5003u);
}

TEST(PartPlan, AnAliasHasNoBytesOfItsOwn) {
  PartLeaf alias = TensorLeaf(MakeKey({"tied"}), v1::DTYPE_F32, {8}, nullptr);
  alias.alias_of_plus_one = 1;
  const auto plan =
      MakePartPlan(PartOf({TensorLeaf(MakeKey({"w"}), v1::DTYPE_F32, {8}, kData), alias}));
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(ShardBytes(*plan), 32u);
}

TEST(PartPlan, EmptyTensorsAndEmptyBoxesAreKeptWithoutShards) {
  const auto plan = MakePartPlan(PartOf(
      {TensorLeaf(MakeKey({"none"}), v1::DTYPE_F32, {0, 4}, nullptr),
       ShardLeaf(MakeKey({"elsewhere"}), v1::DTYPE_F32, {4, 4}, Box{{0, 0}, {0, 4}}, nullptr)}));
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->layout->leaves().size(), 2u);
  EXPECT_EQ(plan->layout->shards().size(), 0u);
}

struct BadPart {
  const char* name;
  Part part;
  const char* text;
};

Part WithShare(Part part, std::vector<uint32_t> share) {
  part.share = std::move(share);
  return part;
}

std::vector<BadPart> BadParts() {
  const auto tensor = [](const char* name) {
    return TensorLeaf(MakeKey({name}), v1::DTYPE_F32, {8}, kData);
  };
  const auto shard = [](Box box) {
    return ShardLeaf(MakeKey({"shard"}), v1::DTYPE_F32, {8, 8}, std::move(box), kData);
  };
  PartLeaf half = tensor("half");
  half.box = Box{{0}, {4}};
  PartLeaf replica = shard(Box{{0, 0}, {8, 8}});
  replica.replica_index = replica.replica_count = 2;
  v1::Key dotted = MakeKey({"a", "b"});
  v1::Value text;
  text.set_text(std::string(5000, 'x'));
  PartLeaf long_value = ValueLeaf(MakeKey({"long"}), Integer(1));
  long_value.value = text;
  return {
      {"alike", PartOf({TensorLeaf(dotted, v1::DTYPE_F32, {8}, kData), tensor("a.b")}), "a.b"},
      {"outside", PartOf({shard(Box{{4, 0}, {5, 8}})}), "shard"},
      {"other_rank_of_box", PartOf({shard(Box{{4}, {4}})}), "shard"},
      {"overflow", PartOf({shard(Box{{UINT64_MAX, 0}, {2, 8}})}), "shard"},
      {"null", PartOf({TensorLeaf(MakeKey({"null"}), v1::DTYPE_F32, {8}, nullptr)}), "null"},
      {"half", PartOf({half}), "half"},
      {"replica", PartOf({replica}), "replica 2 of 2"},
      {"no_dtype", PartOf({TensorLeaf(MakeKey({"t"}), v1::DTYPE_UNSPECIFIED, {8}, kData)}), "t"},
      {"long_value", PartOf({long_value}), "long"},
      {"rank", PartOf({tensor("w")}, 4, 4), "rank 4"},
      {"no_world", PartOf({tensor("w")}, 0, 0), "world size"},
      {"not_in_share", WithShare(PartOf({tensor("w")}, 0, 4), {1, 2}), "rank 0"},
      {"unsorted_share", WithShare(PartOf({tensor("w")}, 0, 4), {1, 0}), "sorted"},
  };
}

TEST(PartPlan, BadPartsAreInvalidAndTheTextNamesWhat) {
  for (const BadPart& bad : BadParts()) {
    const auto plan = MakePartPlan(bad.part);
    EXPECT_EQ(plan.status().code(), absl::StatusCode::kInvalidArgument) << bad.name;
    EXPECT_THAT(std::string(plan.status().message()), HasSubstr(bad.text)) << bad.name;
  }
}

}  // namespace
}  // namespace ckpt
