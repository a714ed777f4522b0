// Layouts that a client could send to confuse or exhaust the daemon.
#include <gtest/gtest.h>

#include <functional>
#include <random>

#include "common/digest.h"
#include "common/layout.h"
#include "common/limits.h"
#include "sample_layout.h"

namespace ckpt {
namespace {

absl::Status Parse(std::string bytes) { return PartLayout::FromBytes(std::move(bytes)).status(); }

// The sample layout, made good, then edited and sent.
absl::Status Edited(const std::function<void(v1::Layout&)>& edit) {
  v1::Layout layout = PartLayout::FromProto(SampleLayout()).value()->ToProto();
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

// A layout of one leaf "w", F32 [3], and its shard, with one of its messages replaced.
std::string OneLeaf(const std::string& leaf_fields, const std::string& shard) {
  const auto field = [](char tag, const std::string& message) {
    return std::string{tag, static_cast<char>(message.size())} + message;
  };
  return field('\x0a', leaf_fields) + field('\x12', shard) + field('\x1a', Sha256(""));
}

TEST(LayoutHostileTest, EveryOtherWayToWriteAFieldIsRefused) {
  const std::string zero(1, '\0');
  const std::string key = "\x0a\x05\x0a\x03\x0a\x01w";
  const std::string kinds = "\x10\x01\x18\x02\x20\x09";  // TENSOR, SHARDED, F32
  const std::string shape = "\x2a\x01\x03";
  const std::string box = "\x12\x06\x0a\x01" + zero + "\x12\x01\x03";
  ASSERT_TRUE(Parse(OneLeaf(key + kinds + shape, box)).ok())
      << Parse(OneLeaf(key + kinds + shape, box));
  const std::pair<const char*, std::string> others[] = {
      {"a default that is written", OneLeaf(key + kinds + shape + "\x30" + zero, box)},
      {"index zero that is written", OneLeaf(key + kinds + shape, "\x08" + zero + box)},
      {"no box", OneLeaf(key + kinds + shape, "")},
      {"an unknown field of a leaf", OneLeaf(key + kinds + shape + "\x38\x01", box)},
      {"an unknown field of a shard", OneLeaf(key + kinds + shape, box + "\x18\x01")},
      {"an unknown field of a layout", OneLeaf(key + kinds + shape, box) + "\x22\x01z"},
      {"a longer number", OneLeaf(key + "\x10\x81" + zero + kinds.substr(2) + shape, box)},
      {"a longer field number", OneLeaf(key + "\x90" + zero + kinds.substr(1) + shape, box)},
      {"fields out of order", OneLeaf(kinds + key + shape, box)},
      {"a field twice", OneLeaf(key + kinds + kinds + shape, box)},
      {"a shape that is not packed", OneLeaf(key + kinds + "\x28\x03", box)},
      {"an empty packed shape", OneLeaf(key + kinds + "\x2a" + zero, box)},
      {"a shape in two pieces", OneLeaf(key + kinds + shape + shape, box)},
      {"a segment with two names",
       OneLeaf("\x0a\x08\x0a\x06\x0a\x01v\x0a\x01w" + kinds + shape, box)},
      {"an alias of more than 32 bits",
       OneLeaf(key + kinds + shape + "\x30\xff\xff\xff\xff\x7f", box)},
      {"a number of more than 64 bits",
       OneLeaf(key + kinds + "\x2a\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x03", box)},
  };
  for (const auto& [what, bytes] : others) {
    const absl::Status status = Parse(bytes);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << what;
    EXPECT_NE(status.message().find("canonical"), absl::string_view::npos) << what << status;
  }
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
    EXPECT_EQ(PartLayout::FromProto((*parsed)->ToProto()).value()->digest(), (*parsed)->digest());
  }
  EXPECT_LT(accepted, 20000);
}

}  // namespace
}  // namespace ckpt
