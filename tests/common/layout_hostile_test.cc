// Layouts that a client could send to confuse or exhaust the daemon.
#include <gtest/gtest.h>

#include <functional>
#include <random>

#include "common/layout.h"
#include "common/limits.h"
#include "sample_layout.h"

namespace ckpt {
namespace {

absl::Status Parse(std::string bytes) { return PartLayout::FromBytes(std::move(bytes)).status(); }

// The sample layout, made good, then edited and sent.
absl::Status Edited(const std::function<void(v1::Layout&)>& edit) {
  v1::Layout layout = PartLayout::FromProto(SampleLayout()).value()->proto();
  edit(layout);
  std::string bytes;
  layout.SerializeToString(&bytes);
  return Parse(std::move(bytes));
}

// The same, with the digest and the order put right again, so that only the edit is wrong.
absl::Status Remade(const std::function<void(v1::Layout&)>& edit) {
  v1::Layout layout = SampleLayout();
  edit(layout);
  return PartLayout::FromProto(std::move(layout)).status();
}

struct BadEdit {
  const char* expected;  // in the error
  std::function<void(v1::Layout&)> edit;
};

TEST(LayoutHostileTest, EveryBadFieldIsRefusedWithItsReason) {
  constexpr uint64_t kMax = UINT64_MAX;
  const BadEdit edits[] = {
      {"no segment", [](auto& l) { l.mutable_leaves(0)->clear_key(); }},
      {"no kind", [](auto& l) { l.mutable_leaves(0)->mutable_key()->add_segments(); }},
      {"prints the same", [](auto& l) { *l.mutable_leaves(1)->mutable_key() = l.leaves(0).key(); }},
      {"no such kind", [](auto& l) { l.mutable_leaves(6)->set_kind(v1::LEAF_KIND_UNSPECIFIED); }},
      {"no such kind",
       [](auto& l) { l.mutable_leaves(6)->set_kind(static_cast<v1::LeafKind>(77)); }},
      {"no such placement", [](auto& l) { l.mutable_leaves(6)->clear_placement(); }},
      {"no such placement",
       [](auto& l) { l.mutable_leaves(6)->set_placement(static_cast<v1::Placement>(9)); }},
      {"can be sharded",
       [](auto& l) { l.mutable_leaves(6)->set_placement(v1::PLACEMENT_SHARDED); }},
      {"no such dtype", [](auto& l) { l.mutable_leaves(0)->clear_dtype(); }},
      {"no such dtype", [](auto& l) { l.mutable_leaves(0)->set_dtype(static_cast<DType>(200)); }},
      {"only tensors have", [](auto& l) { l.mutable_leaves(6)->add_shape(3); }},
      {"only tensors have", [](auto& l) { l.mutable_leaves(6)->set_dtype(v1::DTYPE_F32); }},
      {"2^63 bytes",
       [](auto& l) {
         l.mutable_leaves(4)->set_shape(0, uint64_t{1} << 62);
         l.mutable_leaves(4)->set_shape(1, 2);
       }},
      {"2^63 bytes", [=](auto& l) { l.mutable_leaves(4)->set_shape(0, kMax); }},
      {"dimensions",
       [](auto& l) {
         for (size_t i = 0; i < kDimensionsMax; ++i) l.mutable_leaves(4)->add_shape(1);
       }},
      {"one-dimensional tensors of U8",
       [](auto& l) { l.mutable_leaves(0)->set_kind(v1::LEAF_KIND_STRING_BYTES); }},
      {"earlier leaf", [](auto& l) { l.mutable_leaves(5)->set_alias_of_plus_one(6); }},
      {"earlier leaf", [](auto& l) { l.mutable_leaves(5)->set_alias_of_plus_one(4000000000); }},
      {"dtype and shape", [](auto& l) { l.mutable_leaves(5)->set_alias_of_plus_one(2); }},
      {"not an alias itself",
       [](auto& l) {
         l.mutable_leaves(4)->set_alias_of_plus_one(1);
         l.mutable_leaves(4)->set_shape(0, 4);
         l.mutable_leaves(5)->set_alias_of_plus_one(5);
       }},
      {"leaf 9 of 9", [](auto& l) { l.mutable_shards(0)->set_leaf(9); }},
      {"leaf 4294967295 of 9", [](auto& l) { l.mutable_shards(0)->set_leaf(UINT32_MAX); }},
      {"no tensor",
       [](auto& l) {
         l.mutable_shards(0)->set_leaf(6);
         l.mutable_shards(0)->clear_box();
       }},
      {"is an alias", [](auto& l) { l.mutable_shards(2)->set_leaf(5); }},
      {"is empty", [](auto& l) { l.mutable_shards(2)->mutable_box()->set_extent(0, 0); }},
      {"leaves the shape", [](auto& l) { l.mutable_shards(2)->mutable_box()->set_offset(0, 1); }},
      {"leaves the shape",
       [=](auto& l) {
         l.mutable_shards(2)->mutable_box()->set_offset(0, kMax);
         l.mutable_shards(2)->mutable_box()->set_extent(0, 2);
       }},
      {"offsets and", [](auto& l) { l.mutable_shards(2)->mutable_box()->add_offset(0); }},
      {"offsets and", [](auto& l) { l.mutable_shards(0)->mutable_box()->add_extent(1); }},
      {"overlap", [](auto& l) { l.mutable_shards(4)->mutable_box()->set_offset(0, 5); }},
      {"there twice", [](auto& l) { *l.add_shards() = v1::Shard(l.shards(0)); }},
  };
  for (const BadEdit& bad : edits) {
    const absl::Status status = Remade(bad.edit);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad.expected;
    EXPECT_NE(status.message().find(bad.expected), absl::string_view::npos)
        << "expected: " << bad.expected << "\ngot: " << status;
    EXPECT_FALSE(Edited(bad.edit).ok()) << bad.expected;
  }
  EXPECT_TRUE(Edited([](auto&) {}).ok());
}

TEST(LayoutHostileTest, OrderAndDigestAreChecked) {
  EXPECT_NE(Edited([](auto& l) { l.mutable_shards()->SwapElements(0, 2); })
                .message()
                .find("out of order"),
            absl::string_view::npos);
  EXPECT_NE(Edited([](auto& l) { l.mutable_shards()->SwapElements(3, 4); })
                .message()
                .find("out of order"),
            absl::string_view::npos);
  EXPECT_NE(Edited([](auto& l) { (*l.mutable_replicated_digest())[3] ^= 1; })
                .message()
                .find("replicated_digest"),
            absl::string_view::npos);
  EXPECT_FALSE(Edited([](auto& l) { l.clear_replicated_digest(); }).ok());
}

TEST(LayoutHostileTest, OtherEncodingsOfTheSameLayoutAreRefused) {
  const std::string good = PartLayout::FromProto(SampleLayout()).value()->serialized();
  ASSERT_TRUE(Parse(good).ok());
  // The digest first (field 3), the rest behind it: parses to the same message.
  const std::string moved = good.substr(good.size() - 34) + good.substr(0, good.size() - 34);
  const absl::Status status = Parse(moved);
  EXPECT_NE(status.message().find("canonical"), absl::string_view::npos) << status;
}

TEST(LayoutHostileTest, SizeOfAPartIsBounded) {
  v1::Layout layout;
  for (int i = 0; i < 3; ++i) {
    *layout.add_leaves() = TensorNamed("t" + std::to_string(i), v1::DTYPE_U8, {kPartBytesMax / 2});
    AddShard(static_cast<uint32_t>(i), WholeOf(layout.leaves(i)), layout);
  }
  EXPECT_FALSE(PartLayout::FromProto(layout).ok());
  layout.mutable_leaves()->RemoveLast();
  layout.mutable_shards()->RemoveLast();
  EXPECT_TRUE(PartLayout::FromProto(layout).ok());
  *layout.add_leaves() = TensorNamed("big", v1::DTYPE_F64, {uint64_t{1} << 59});
  EXPECT_TRUE(PartLayout::FromProto(layout).ok()) << "held by other ranks";
  AddShard(2, WholeOf(layout.leaves(2)), layout);
  EXPECT_FALSE(PartLayout::FromProto(layout).ok());
}

// Two bytes of wire become a hundred in memory: refused before they are parsed.
TEST(LayoutHostileTest, TinyMessagesByTheMillionAreRefusedBeforeParsing) {
  std::string leaves;
  for (size_t i = 0; i <= kLeavesPerPartMax; ++i) leaves += std::string("\x0a\x00", 2);
  EXPECT_NE(Parse(leaves).message().find("leaves"), absl::string_view::npos);
  std::string shards;
  for (size_t i = 0; i <= kShardsPerPartMax; ++i) shards += std::string("\x12\x00", 2);
  EXPECT_NE(Parse(shards).message().find("shards"), absl::string_view::npos);
  // One leaf whose key has a million segments.
  std::string segments;
  for (int i = 0; i < 1000000; ++i) segments += std::string("\x0a\x00", 2);
  v1::Layout layout;
  layout.add_leaves();
  layout.mutable_leaves(0)->mutable_key()->ParseFromString(segments);
  EXPECT_NE(Parse(layout.SerializeAsString()).message().find("bytes; its key is too long"),
            absl::string_view::npos);
  // A shape of a thousand dimensions.
  layout = SampleLayout();
  for (int i = 0; i < 1000; ++i) layout.mutable_leaves(0)->add_shape(1);
  EXPECT_NE(Parse(layout.SerializeAsString()).message().find("dimensions"),
            absl::string_view::npos);
}

TEST(LayoutHostileTest, TruncationsAndRandomDamageNeverPassForTheSame) {
  const auto good = PartLayout::FromProto(SampleLayout()).value();
  for (size_t length = 0; length < good->serialized().size(); ++length) {
    (void)Parse(good->serialized().substr(0, length));
  }
  std::mt19937_64 random(11);
  int accepted = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string bytes = good->serialized();
    const size_t edits = 1 + random() % 4;
    for (size_t e = 0; e < edits; ++e) {
      const size_t at = random() % bytes.size();
      switch (random() % 3) {
        case 0:
          bytes[at] = static_cast<char>(random());
          break;
        case 1:
          bytes.erase(at, 1 + random() % 5);
          break;
        default:
          bytes.insert(at, 1 + random() % 5, static_cast<char>(random()));
      }
      if (bytes.empty()) bytes = "x";
    }
    const auto parsed = PartLayout::FromBytes(bytes);
    if (!parsed.ok()) continue;
    ++accepted;
    EXPECT_EQ((*parsed)->digest() == good->digest(), bytes == good->serialized());
    EXPECT_EQ(PartLayout::FromProto((*parsed)->proto()).value()->digest(), (*parsed)->digest());
  }
  EXPECT_LT(accepted, 20000);
}

}  // namespace
}  // namespace ckpt
