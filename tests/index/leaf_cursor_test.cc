// The packed leaves say what the layout says, whichever way they are walked.
#include "server/index/leaf_cursor.h"

#include <algorithm>
#include <map>
#include <random>

#include "absl/strings/str_cat.h"
#include "common/key.h"
#include "gmock/gmock.h"
#include "tests/index/index_fixture.h"

namespace ckpt {
namespace {

// Leaves of all kinds under keys that share beginnings, some of which are beginnings of others.
std::shared_ptr<const PartLayout> RandomLayout(uint32_t seed, int leaves) {
  std::mt19937 random(seed);
  const auto below = [&](uint32_t bound) { return random() % bound; };
  v1::Layout layout;
  std::map<std::string, int> used;
  std::vector<uint32_t> tensors;
  while (layout.leaves_size() < leaves) {
    v1::Key key;
    for (uint32_t depth = 1 + below(4); depth > 0; --depth) {
      if (below(3) == 0) {
        key.add_segments()->set_index(below(12));
      } else if (below(12) == 0) {
        key.add_segments()->set_name("");  // alone, it prints as nothing
      } else {
        key.add_segments()->set_name(absl::StrCat(below(2) == 0 ? "layer" : "l", below(20)));
      }
    }
    if (!used.emplace(PrintKey(key), 0).second) continue;
    const auto number = static_cast<uint32_t>(layout.leaves_size());
    v1::Leaf* leaf = layout.add_leaves();
    *leaf->mutable_key() = key;
    leaf->set_placement(static_cast<v1::Placement>(1 + below(3)));
    if (below(5) == 0) {
      leaf->set_kind(v1::LEAF_KIND_VALUE);
      if (leaf->placement() == v1::PLACEMENT_SHARDED) leaf->set_placement(v1::PLACEMENT_PER_RANK);
      continue;
    }
    leaf->set_kind(v1::LEAF_KIND_TENSOR);
    if (!tensors.empty() && below(6) == 0) {
      const uint32_t target = tensors[below(static_cast<uint32_t>(tensors.size()))];
      leaf->set_dtype(layout.leaves(static_cast<int>(target)).dtype());
      *leaf->mutable_shape() = layout.leaves(static_cast<int>(target)).shape();
      leaf->set_alias_of_plus_one(target + 1);
      continue;
    }
    leaf->set_dtype(std::array{v1::DTYPE_U8, v1::DTYPE_BF16, v1::DTYPE_F32}[below(3)]);
    for (uint32_t d = below(4); d > 0; --d) leaf->add_shape(1 + below(9));
    tensors.push_back(number);
    const uint64_t rows = leaf->shape_size() == 0 ? 0 : leaf->shape(0);
    const uint64_t cut = rows < 2 ? 0 : 1 + below(static_cast<uint32_t>(rows - 1));
    for (uint32_t half = below(4) == 0 ? 2 : 0; half < 2; ++half) {  // some are not stored here
      if (cut == 0 && half == 1) break;
      v1::Shard* shard = layout.add_shards();
      shard->set_leaf(number);
      Box box = Box::Whole({leaf->shape().data(), static_cast<size_t>(leaf->shape_size())});
      if (cut != 0) {
        box.offset[0] = half == 0 ? 0 : cut;
        box.extent[0] = half == 0 ? cut : rows - cut;
      }
      box.ToProto(shard->mutable_box());
    }
  }
  auto made = PartLayout::FromProto(std::move(layout));
  EXPECT_TRUE(made.ok()) << made.status();
  return *made;
}

void ExpectLeaf(const PartLayout& layout, const LeafCursor& cursor, uint32_t number) {
  const v1::Layout proto = layout.ToProto();
  const v1::Leaf& leaf = proto.leaves(static_cast<int>(number));
  ASSERT_TRUE(cursor.valid());
  ASSERT_EQ(cursor.printed_key(), PrintKey(leaf.key()));
  EXPECT_EQ(cursor.position(), number);
  EXPECT_EQ(cursor.placement(), leaf.placement());
  v1::Leaf read;
  ASSERT_TRUE(cursor.ReadLeaf(read).ok());
  EXPECT_EQ(read.SerializeAsString(), leaf.SerializeAsString());
  const LeafFacts facts = cursor.Facts(7);
  const LeafFacts expected = FactsOf(leaf, cursor.printed_key(), 7);
  EXPECT_EQ(facts.top_level, expected.top_level);
  EXPECT_EQ(facts.dtype, expected.dtype);
  EXPECT_EQ(facts.bytes, expected.bytes);
  EXPECT_EQ(facts.rank, expected.rank);
  const uint32_t alias = leaf.alias_of_plus_one();
  ASSERT_EQ(cursor.alias_target().has_value(), alias != 0);
  if (alias != 0) {
    EXPECT_EQ(*cursor.alias_target(), layout.leaves().printed_key(alias - 1));
  }
  bool tied = alias != 0;
  for (const v1::Leaf& other : proto.leaves()) {
    tied |= other.alias_of_plus_one() == number + 1;
  }
  EXPECT_EQ(cursor.tied(), tied);
  std::vector<LeafShard> shards;
  ASSERT_TRUE(cursor.ReadShards(shards).ok());
  size_t next = 0;
  for (int s = 0; s < proto.shards_size(); ++s) {
    if (proto.shards(s).leaf() != number) continue;
    ASSERT_LT(next, shards.size());
    const PartLayout::ShardPlace& place = layout.shards()[static_cast<size_t>(s)];
    EXPECT_EQ(shards[next].box, Box::FromProto(proto.shards(s).box()));
    EXPECT_EQ(shards[next].length, place.length);
    EXPECT_EQ(shards[next].part_offset, place.part_offset);
    EXPECT_EQ(shards[next].region_offset,
              place.part_offset - layout.files()[place.file].part_offset);
    EXPECT_EQ(shards[next].file, place.file);
    EXPECT_EQ(shards[next].first_block, place.first_block);
    ++next;
  }
  EXPECT_EQ(next, shards.size());
}

void ExpectWalks(const PartLayout& layout, LeafCursor& cursor, uint32_t seed) {
  std::map<std::string, uint32_t> expected;
  for (uint32_t i = 0; i < layout.leaves().size(); ++i) {
    expected[std::string(layout.leaves().printed_key(i))] = i;
  }
  ASSERT_TRUE(cursor.Seek("").ok());
  for (const auto& [key, number] : expected) {
    ExpectLeaf(layout, cursor, number);
    ASSERT_TRUE(cursor.Next().ok());
  }
  EXPECT_FALSE(cursor.valid());
  std::mt19937 random(seed);
  for (int i = 0; i < 2000; ++i) {
    auto to = expected.begin();
    std::advance(to, random() % expected.size());
    std::string key = to->first;
    if (random() % 2 == 0) key.resize(random() % (key.size() + 1));
    if (random() % 4 == 0) key += static_cast<char>('!' + random() % 90);
    ASSERT_TRUE(cursor.Seek(key).ok());
    const auto found = expected.lower_bound(key);
    ASSERT_EQ(cursor.valid(), found != expected.end()) << key;
    if (!cursor.valid()) continue;
    ASSERT_EQ(cursor.printed_key(), found->first) << key;
    if (random() % 3 != 0) continue;
    ASSERT_TRUE(cursor.Next().ok());
    ASSERT_EQ(cursor.valid(), std::next(found) != expected.end());
    if (cursor.valid()) {
      ASSERT_EQ(cursor.printed_key(), std::next(found)->first);
    }
  }
}

class LeafCursors : public IndexTest {};

TEST_F(LeafCursors, WalkLikeTheLayout) {
  for (const int leaves : {1, 2, 63, 64, 65, 500}) {
    const auto layout = RandomLayout(static_cast<uint32_t>(leaves), leaves);
    Made made = Make(IdOf("r", static_cast<uint64_t>(leaves)));
    made.parts[0].set_layout_digest(layout->digest());
    *made.parts[0].mutable_layout() = layout->ToProto();
    ASSERT_TRUE(index_->PutCheckpoint(made.manifest, made.parts, {}).ok());
    const auto stored = index_->OpenLeaves(layout->digest());
    ASSERT_TRUE(stored.ok()) << stored.status();
    ExpectWalks(*layout, **stored, 1);
    ExpectWalks(*layout, *CursorOverLayout(*layout), 2);
    const auto together = index_->FindLayout(layout->digest());
    ASSERT_NE(together, nullptr);
    EXPECT_EQ(together->serialized(), layout->serialized());
    if (HasFailure()) FAIL() << leaves;
  }
}

TEST_F(LeafCursors, ReadOnAlthoughTheLayoutIsForgotten) {
  const auto layout = LayoutOfSizes(std::vector<uint64_t>(500, 10));
  const CheckpointUid uid = Put(IdOf("r", 1), std::vector<uint64_t>(500, 10));
  const auto cursor = index_->OpenLeaves(layout->digest());
  ASSERT_TRUE(cursor.ok());
  ASSERT_TRUE(index_->Tombstone(uid).ok());
  ASSERT_TRUE(index_->FinishTombstone(uid).ok());
  EXPECT_TRUE(absl::IsNotFound(index_->OpenLeaves(layout->digest()).status()));
  ExpectWalks(*layout, **cursor, 3);
}

TEST(DamagedRows, AreDataLossWhereverTheyAreCut) {
  class OneRow : public LeafRows {
   public:
    explicit OneRow(std::string row) : row_(std::move(row)) {}
    absl::Status Seek(absl::string_view) override { return absl::OkStatus(); }
    absl::Status Next() override {
      valid_ = false;
      return absl::OkStatus();
    }
    bool valid() const override { return valid_; }
    absl::string_view row() const override { return row_; }

   private:
    const std::string row_;
    bool valid_ = true;
  };
  const auto layout = RandomLayout(5, 20);
  std::string row;
  ASSERT_TRUE(PackLeaves(*layout, [&](absl::string_view, absl::string_view packed) {
                row = std::string(packed);
                return absl::OkStatus();
              }).ok());
  size_t damaged = 0;
  for (size_t length = 1; length < row.size(); ++length) {
    LeafCursor cursor(std::make_unique<OneRow>(row.substr(0, length)));
    absl::Status status = cursor.Seek("");
    while (status.ok() && cursor.valid()) status = cursor.Next();
    EXPECT_TRUE(status.ok() || absl::IsDataLoss(status)) << status;
    damaged += status.ok() ? 0 : 1;
  }
  EXPECT_GE(damaged, row.size() - 20);  // a cut between two leaves looks like the end
}

}  // namespace
}  // namespace ckpt
