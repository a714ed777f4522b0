#include <algorithm>
#include "common/layout.h"

#include <gtest/gtest.h>

#include "common/digest.h"
#include "common/ids.h"
#include "common/limits.h"
#include "common/replication.h"
#include "random_boxes.h"
#include "sample_layout.h"

namespace ckpt {
namespace {

TEST(LayoutTest, PlacesShardsInCanonicalOrderWithoutHoles) {
  const auto layout = PartLayout::FromProto(SampleLayout()).value();
  // Element sizes 8, 8, 4, 2, 2, 1; equal ones by key.
  std::vector<std::string> names;
  for (size_t s = 0; s < layout->shard_boxes().size(); ++s) {
    names.emplace_back(layout->leaves().printed_key(layout->shard_boxes()[s].leaf));
  }
  EXPECT_EQ(names, (std::vector<std::string>{"scalar", "wave", "weight", "rows", "rows", "bytes"}));
  std::vector<uint64_t> offsets, lengths;
  for (const PartLayout::ShardPlace& place : layout->shards()) {
    offsets.push_back(place.part_offset);
    lengths.push_back(place.length);
    EXPECT_EQ(place.file, 0u);
  }
  EXPECT_EQ(offsets, (std::vector<uint64_t>{0, 8, 24, 120, 132, 140}));
  EXPECT_EQ(lengths, (std::vector<uint64_t>{8, 16, 96, 12, 8, 5}));
  EXPECT_EQ(layout->data_bytes(), 145u);
  EXPECT_EQ(layout->part_bytes(), 145u);
  EXPECT_EQ(layout->block_count(), 6u);
  ASSERT_EQ(layout->files().size(), 1u);
  EXPECT_EQ(layout->files()[0].length, 145u);
  EXPECT_EQ(layout->files()[0].shard_count, 6u);
}

// The digest names what is stored: it must never change.
TEST(LayoutTest, DigestIsStable) {
  const auto layout = PartLayout::FromProto(SampleLayout()).value();
  EXPECT_EQ(internal::Hex(layout->digest()),
            "19a4116963c995d59c6f7d823085072bd48b6c54b150c28c486af6d4d4c480ff");
  EXPECT_EQ(layout->digest(), Sha256(layout->serialized()));
}

TEST(LayoutTest, BytesAndProtoAgree) {
  const auto first = PartLayout::FromProto(SampleLayout()).value();
  const auto second = PartLayout::FromBytes(first->serialized()).value();
  EXPECT_EQ(second->digest(), first->digest());
  EXPECT_EQ(second->part_bytes(), first->part_bytes());
  EXPECT_EQ(PartLayout::FromProto(second->ToProto()).value()->digest(), first->digest());
}

TEST(LayoutTest, OrderOfShardsGivenDoesNotMatter) {
  const auto expected = PartLayout::FromProto(SampleLayout()).value();
  RandomBoxes random(7);
  for (int i = 0; i < 20; ++i) {
    v1::Layout layout = SampleLayout();
    std::shuffle(layout.mutable_shards()->pointer_begin(), layout.mutable_shards()->pointer_end(),
                 random.generator());
    EXPECT_EQ(PartLayout::FromProto(layout).value()->digest(), expected->digest());
  }
}

TEST(LayoutTest, EmptyLayout) {
  const auto layout = PartLayout::FromProto({}).value();
  EXPECT_TRUE(layout->files().empty());
  EXPECT_EQ(layout->part_bytes(), 0u);
  EXPECT_TRUE(PartLayout::FromBytes(layout->serialized()).ok());
}

TEST(LayoutTest, BlocksAreCountedPerShard) {
  v1::Layout layout;
  *layout.add_leaves() = TensorNamed("a", v1::DTYPE_U8, {kHashBlockBytes + 1});
  *layout.add_leaves() = TensorNamed("b", v1::DTYPE_U8, {kHashBlockBytes});
  *layout.add_leaves() = TensorNamed("c", v1::DTYPE_U8, {1});
  for (uint32_t i = 0; i < 3; ++i) AddShard(i, WholeOf(layout.leaves(static_cast<int>(i))), layout);
  const auto made = PartLayout::FromProto(layout).value();
  EXPECT_EQ(made->shards()[0].first_block, 0u);
  EXPECT_EQ(made->shards()[1].first_block, 2u);
  EXPECT_EQ(made->shards()[2].first_block, 3u);
  EXPECT_EQ(made->block_count(), 4u);
}

// By printed key, byte for byte, however much of it is common to many.
TEST(LayoutTest, ShardsStandInTheOrderOfTheirKeys) {
  using std::string_literals::operator""s;
  const std::string common(100, 'c');
  std::vector<std::string> names = {"b", "a\0"s, "a", "a\0b"s, "a\0\0"s, "\xc3\xa9", "ab", "Z",
                                    "aaaaaaaa", "aaaaaaaab", "aaaaaaaa\0"s};
  for (int i = 0; i < 300; ++i) {
    names.push_back(common + std::to_string(i * 7919 % 1000));
    names.push_back("layers." + std::to_string(i) + ".block." + std::to_string(i * 31 % 17));
    names.push_back(names.back() + "\0"s);
  }
  v1::Layout layout;
  for (const std::string& name : names) {
    *layout.add_leaves() = TensorNamed(name, v1::DTYPE_U8, {4}, v1::PLACEMENT_SHARDED);
  }
  for (uint32_t i = 0; i < names.size(); ++i) {
    AddShard(i, {{2}, {1}}, layout);
    AddShard(i, {{0}, {1}}, layout);
  }
  const auto made = PartLayout::FromProto(layout);
  ASSERT_TRUE(made.ok()) << made.status();
  std::sort(names.begin(), names.end());
  const ShardTable& shards = (*made)->shard_boxes();
  ASSERT_EQ(shards.size(), 2 * names.size());
  for (size_t i = 0; i < shards.size(); ++i) {
    ASSERT_EQ((*made)->leaves().printed_key(shards[i].leaf), names[i / 2]);
    ASSERT_EQ(shards[i].offset[0], i % 2 == 0 ? 0u : 2u);
  }
}

// A random layout: offsets follow each other, in canonical order, whatever the boxes.
TEST(LayoutTest, RandomLayoutsAreContiguous) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE(seed);
    RandomBoxes random(seed);
    v1::Layout layout;
    const uint64_t leaves = random.Number(1, 20);
    for (uint32_t i = 0; i < leaves; ++i) {
      v1::Leaf leaf = TensorNamed(
          "leaf" + std::to_string(random.Number(0, 1000000)) + "-" + std::to_string(i),
          static_cast<DType>(random.Number(1, v1::DType_MAX)), {}, v1::PLACEMENT_SHARDED);
      const Extents shape = random.Shape(random.Number(1, 4), 9);
      for (const uint64_t extent : shape) leaf.add_shape(extent);
      *layout.add_leaves() = leaf;
      std::vector<Box> boxes = random.Tiling(Box::Whole(shape), random.Number(1, 8));
      boxes.resize(random.Number(0, boxes.size()));
      for (const Box& box : boxes) AddShard(i, box, layout);
    }
    const auto made = PartLayout::FromProto(layout);
    ASSERT_TRUE(made.ok()) << made.status();
    uint64_t at = 0, element_before = 8;
    for (size_t i = 0; i < (*made)->shards().size(); ++i) {
      const PartLayout::ShardPlace& place = (*made)->shards()[i];
      const ShardView shard = (*made)->shard_boxes()[i];
      const uint64_t element = DTypeBytes((*made)->leaves()[shard.leaf].dtype);
      ASSERT_EQ(place.part_offset, at);
      ASSERT_EQ(place.length, shard.box().volume() * element);
      ASSERT_LE(element, element_before);
      ASSERT_EQ(place.part_offset % element, 0u) << "naturally aligned";
      at += place.length;
      element_before = element;
    }
    ASSERT_EQ((*made)->part_bytes(), at);
    ASSERT_EQ((*made)->ToProto().SerializeAsString(), (*made)->serialized()) << "as Protobuf does";
    ASSERT_EQ(PartLayout::FromBytes((*made)->serialized()).value()->digest(), (*made)->digest());
  }
}

TEST(LayoutTest, ManyShardsGoIntoSeveralFiles) {
  v1::Layout layout;
  constexpr uint64_t kRows = 12000;
  // Long names: few shards fill a header.
  *layout.add_leaves() =
      TensorNamed(std::string(4000, 'k'), v1::DTYPE_U8, {kRows, 3}, v1::PLACEMENT_SHARDED);
  for (uint64_t row = 0; row < kRows; ++row) AddShard(0, {{row, 0}, {1, 3}}, layout);
  const auto made = PartLayout::FromProto(layout).value();
  ASSERT_GT(made->files().size(), 2u);
  uint32_t shard = 0;
  uint64_t end = 0;
  for (size_t f = 0; f < made->files().size(); ++f) {
    const PartLayout::FilePlace& file = made->files()[f];
    EXPECT_EQ(file.first_shard, shard);
    EXPECT_EQ(file.part_offset % kDataAlignmentBytes, 0u);
    EXPECT_GE(file.part_offset, end);
    EXPECT_LT(file.part_offset, end + kDataAlignmentBytes);
    EXPECT_EQ(made->shards()[shard].part_offset, file.part_offset);
    EXPECT_EQ(made->shards()[shard].file, f);
    shard += file.shard_count;
    end = file.part_offset + file.length;
  }
  EXPECT_EQ(shard, kRows);
  EXPECT_EQ(made->part_bytes(), end);
  EXPECT_EQ(made->data_bytes(), kRows * 3);
}

// Keys of six segments, a shard of each.
TEST(LayoutTest, ALeafTakesAFewHundredBytes) {
  constexpr uint32_t kLeaves = 20000;
  LayoutBuilder builder;
  for (uint32_t i = 0; i < kLeaves; ++i) {
    v1::Leaf leaf = TensorNamed("", v1::DTYPE_F32, {16}, v1::PLACEMENT_SHARDED);
    *leaf.mutable_key() = MakeKey({"model", "layers", std::to_string(i / 16), "experts",
                                   "block" + std::to_string(i % 16), "weight"});
    ASSERT_TRUE(builder.AddLeaf(leaf).ok());
  }
  for (uint32_t i = 0; i < kLeaves; ++i) ASSERT_TRUE(builder.AddShard(i, {{2}, {2}}).ok());
  const auto built = builder.Build().value();
  EXPECT_LT(built->MemoryBytes(), 400 * kLeaves);
  EXPECT_LT(PartLayout::FromBytes(built->serialized()).value()->MemoryBytes(), 400 * kLeaves);
}

}  // namespace
}  // namespace ckpt
