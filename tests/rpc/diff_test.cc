// What differs between two checkpoints, told from manifests over a real index and data folder.
#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/key.h"
#include "common/status_macros.h"
#include "gmock/gmock.h"
#include "server/rpc/leaf_selection.h"
#include "server/rpc/leaf_sequence.h"
#include "tests/rpc/rpc_fixture.h"

namespace ckpt {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// A stored box and its bytes: block b is full of fill[b % size].
struct FilledBox {
  Box box;
  std::string fill;
};

struct DiffLeaf {
  std::string key;
  v1::Placement placement = v1::PLACEMENT_REPLICATED;
  v1::DType dtype = v1::DTYPE_U8;
  std::vector<uint64_t> shape;
  std::vector<FilledBox> boxes;  // of this rank
  std::optional<int64_t> value;  // a plain value instead
  int alias_of = -1;
};

DiffLeaf Whole(std::string key, std::vector<uint64_t> shape, std::string fill,
               v1::DType dtype = v1::DTYPE_U8) {
  return {.key = std::move(key),
          .dtype = dtype,
          .shape = shape,
          .boxes = {{Box::Whole(shape), std::move(fill)}}};
}

DiffLeaf OwnOf(DiffLeaf leaf) {
  leaf.placement = v1::PLACEMENT_PER_RANK;
  return leaf;
}

struct ReceivedDiff {
  std::vector<v1::LeafDifference> differences;
  std::vector<std::string> told;  // "CHANGED key"
  v1::DiffSummary summary;
  size_t messages = 0;
};

class DiffTest : public RpcTest {
 protected:
  void SaveLeaves(const CheckpointId& id, const std::vector<std::vector<DiffLeaf>>& ranks) {
    const CheckpointUid uid = CheckpointUid::TimeOrdered();
    std::vector<DurablePart> parts;
    std::vector<uint32_t> share;
    for (uint32_t rank = 0; rank < ranks.size(); ++rank) {
      auto durable = store_->Persist(MakeDiffPart(id, uid, ranks, rank));
      ASSERT_TRUE(durable.ok()) << durable.status();
      parts.push_back(*std::move(durable));
      share.push_back(rank);
    }
    const auto record = store_->persister().Commit(id, uid, static_cast<uint32_t>(ranks.size()),
                                                   share, parts);
    ASSERT_TRUE(record.ok()) << record.status();
  }

  static PartToPersist MakeDiffPart(const CheckpointId& id, CheckpointUid uid,
                                    const std::vector<std::vector<DiffLeaf>>& ranks,
                                    uint32_t rank) {
    const std::vector<DiffLeaf>& leaves = ranks[rank];
    v1::Layout proto;
    v1::Values values;
    for (uint32_t i = 0; i < leaves.size(); ++i) {
      v1::Leaf* leaf = proto.add_leaves();
      *leaf->mutable_key() = MakeKey({leaves[i].key});
      leaf->set_placement(leaves[i].placement);
      leaf->set_kind(leaves[i].value ? v1::LEAF_KIND_VALUE : v1::LEAF_KIND_TENSOR);
      if (leaves[i].value) {
        v1::Values::Entry* entry = values.add_entries();
        entry->set_leaf(i);
        entry->mutable_value()->set_integer(*leaves[i].value);
        continue;
      }
      leaf->set_dtype(leaves[i].dtype);
      for (const uint64_t extent : leaves[i].shape) leaf->add_shape(extent);
      if (leaves[i].alias_of >= 0) leaf->set_alias_of_plus_one(leaves[i].alias_of + 1);
      for (const FilledBox& filled : leaves[i].boxes) {
        v1::Shard* shard = proto.add_shards();
        shard->set_leaf(i);
        filled.box.ToProto(shard->mutable_box());
      }
    }
    auto layout = PartLayout::FromProto(proto);
    EXPECT_TRUE(layout.ok()) << layout.status();
    std::string bytes((*layout)->part_bytes(), '\0');
    for (size_t s = 0; s < (*layout)->shards().size(); ++s) {
      const ShardView shard = (*layout)->shard_boxes()[s];
      const auto& boxes = leaves[shard.leaf].boxes;
      const auto filled = std::find_if(boxes.begin(), boxes.end(), [&](const FilledBox& candidate) {
        return candidate.box == shard.box();
      });
      const PartLayout::ShardPlace& place = (*layout)->shards()[s];
      for (uint64_t i = 0; i < place.length; ++i) {
        bytes[place.part_offset + i] = filled->fill[i / kMiB % filled->fill.size()];
      }
    }
    PartToPersist part =
        MakePart(id, uid, *layout, 1, rank, static_cast<uint32_t>(ranks.size()));
    part.source = std::make_shared<StringSource>(std::move(bytes));
    part.values = std::move(values);
    return part;
  }

  absl::StatusOr<ReceivedDiff> Diff(uint64_t before, uint64_t after,
                                    const v1::Selection& selection = {}) {
    v1::DiffCheckpointsRequest request;
    *request.mutable_before() = StepOf("r", before);
    *request.mutable_after() = StepOf("r", after);
    *request.mutable_selection() = selection;
    ReceivedDiff diff;
    bool ended = false;
    CKPT_RETURN_IF_ERROR(DiffCheckpoints(
        *catalog_, request, Never, [&](const v1::DiffCheckpointsResponse& message) {
          EXPECT_FALSE(ended) << "the summary comes last";
          EXPECT_LE(message.ByteSizeLong(), 4u << 20);
          ++diff.messages;
          for (const v1::LeafDifference& difference : message.differences().differences()) {
            diff.differences.push_back(difference);
            diff.told.push_back(Told(difference));
          }
          if (message.has_summary()) diff.summary = message.summary();
          ended = message.has_summary();
          return true;
        }));
    EXPECT_TRUE(ended);
    return diff;
  }

  static std::string Told(const v1::LeafDifference& difference) {
    const v1::Leaf& leaf = difference.has_after() ? difference.after() : difference.before();
    EXPECT_EQ(difference.has_before(), difference.kind() != v1::LeafDifference::KIND_ADDED);
    EXPECT_EQ(difference.has_after(), difference.kind() != v1::LeafDifference::KIND_REMOVED);
    const std::string own = leaf.placement() == v1::PLACEMENT_PER_RANK
                                ? absl::StrCat(" of rank ", difference.rank())
                                : "";
    return absl::StrCat(v1::LeafDifference::Kind_Name(difference.kind()).substr(5), " ",
                        PrintKey(leaf.key()), own);
  }
};

TEST_F(DiffTest, ACheckpointIsIdenticalToItself) {
  Save(IdOf("r", 1), {3 << 20, 100}, 2);
  const auto diff = Diff(1, 1);
  ASSERT_TRUE(diff.ok()) << diff.status();
  EXPECT_THAT(diff->told, IsEmpty());
  EXPECT_EQ(diff->summary.identical(), 4u);
  EXPECT_EQ(diff->summary.data_bytes(), 2 * ((3 << 20) + 100));
  EXPECT_EQ(diff->summary.identical_bytes(), diff->summary.data_bytes());
  EXPECT_EQ(diff->summary.before().step(), 1u);
}

TEST_F(DiffTest, TellsWhatWasAddedRemovedReshapedAndChangedByKey) {
  SaveLeaves(IdOf("r", 1), {{Whole("same", {10}, "s"), Whole("gone", {20}, "g"),
                             Whole("wider", {2, 3}, "w"), Whole("typed", {4}, "t"),
                             Whole("bytes", {30}, "a"), {.key = "step", .value = 1},
                             {.key = "epoch", .value = 7}, {.key = "turned", .value = 1},
                             {.key = "empty", .shape = {0, 4}}}});
  SaveLeaves(IdOf("r", 2), {{{.key = "epoch", .value = 7}, {.key = "step", .value = 2},
                             Whole("bytes", {30}, "b"), Whole("typed", {4}, "t", v1::DTYPE_I8),
                             Whole("wider", {2, 4}, "w"), Whole("new", {40}, "n"),
                             Whole("same", {10}, "s"), Whole("turned", {8}, "1"),
                             {.key = "empty", .shape = {0, 4}}}});
  const auto diff = Diff(1, 2);
  ASSERT_TRUE(diff.ok()) << diff.status();
  EXPECT_THAT(diff->told,
              ElementsAre("CHANGED bytes", "REMOVED gone", "ADDED new", "CHANGED step",
                          "RESHAPED turned", "RESHAPED typed", "RESHAPED wider"));
  EXPECT_EQ(diff->differences[0].data_bytes(), 30u);
  EXPECT_EQ(diff->differences[0].changed_bytes(), 30u);
  EXPECT_EQ(diff->differences[1].data_bytes(), 20u);
  EXPECT_EQ(diff->differences[2].data_bytes(), 40u);
  EXPECT_EQ(diff->differences[3].before_value().integer(), 1);
  EXPECT_EQ(diff->differences[3].after_value().integer(), 2);
  EXPECT_EQ(diff->differences[6].before().shape(1), 3u);
  EXPECT_EQ(diff->differences[6].after().shape(1), 4u);
  const v1::DiffSummary& summary = diff->summary;
  EXPECT_EQ(summary.added(), 1u);
  EXPECT_EQ(summary.removed(), 1u);
  EXPECT_EQ(summary.reshaped(), 3u);
  EXPECT_EQ(summary.changed(), 2u);
  EXPECT_EQ(summary.unknown(), 0u);
  EXPECT_EQ(summary.identical(), 3u);
  EXPECT_EQ(summary.data_bytes(), 30u + 4 + 8 + 40 + 10 + 8);
  EXPECT_EQ(summary.identical_bytes(), 10u);
}

TEST_F(DiffTest, ChangedBytesAreThoseOfTheBlocksThatDiffer) {
  const uint64_t bytes = 3 * kMiB + 10;
  SaveLeaves(IdOf("r", 1), {{Whole("t", {bytes}, "abcd")}});
  SaveLeaves(IdOf("r", 2), {{Whole("t", {bytes}, "aXcd")}});
  SaveLeaves(IdOf("r", 3), {{Whole("t", {bytes}, "abcX")}});
  auto diff = Diff(1, 2);
  ASSERT_TRUE(diff.ok()) << diff.status();
  ASSERT_THAT(diff->told, ElementsAre("CHANGED t"));
  EXPECT_EQ(diff->differences[0].changed_bytes(), kMiB);
  EXPECT_EQ(diff->summary.identical_bytes(), 2 * kMiB + 10);
  diff = Diff(1, 3);
  ASSERT_TRUE(diff.ok()) << diff.status();
  EXPECT_EQ(diff->differences[0].changed_bytes(), 10u) << "the last block is a short one";
}

// Rank 1 has one leaf more: no part has the layout of the other checkpoint's part.
TEST_F(DiffTest, SharedLeavesAreComparedOverAllRanksWhateverElseThePartsHold) {
  const auto rank = [](uint64_t number, std::string fill) {
    const uint64_t row = number * 2;
    return std::vector<DiffLeaf>{
        {.key = "replicated", .shape = {4, 5}, .boxes = {{{{row, 0}, {2, 5}}, fill}}},
        {.key = "sharded",
         .placement = v1::PLACEMENT_SHARDED,
         .shape = {4},
         .boxes = {{{{row}, {2}}, "s"}}}};
  };
  SaveLeaves(IdOf("r", 1), {rank(0, "a"), rank(1, "b")});
  std::vector<DiffLeaf> more = rank(1, "X");
  more.insert(more.begin(), Whole("another", {7}, "n"));
  std::vector<DiffLeaf> first = rank(0, "a");
  first.push_back({.key = "another", .shape = {7}});
  SaveLeaves(IdOf("r", 2), {first, more});
  const auto diff = Diff(1, 2);
  ASSERT_TRUE(diff.ok()) << diff.status();
  EXPECT_THAT(diff->told, ElementsAre("ADDED another", "CHANGED replicated"));
  EXPECT_EQ(diff->differences[1].data_bytes(), 20u);
  EXPECT_EQ(diff->differences[1].changed_bytes(), 10u) << "the rows of rank 1";
  EXPECT_EQ(diff->summary.identical(), 1u);
  EXPECT_EQ(diff->summary.identical_bytes(), 14u);
}

TEST_F(DiffTest, WhatIsCutOtherwiseIsUnknown) {
  const auto rows = [](uint64_t from, uint64_t to) {
    return std::vector<DiffLeaf>{{.key = "t",
                                  .placement = v1::PLACEMENT_SHARDED,
                                  .shape = {6},
                                  .boxes = {{{{from}, {to - from}}, "t"}}}};
  };
  SaveLeaves(IdOf("r", 1), {rows(0, 3), rows(3, 6)});
  SaveLeaves(IdOf("r", 2), {rows(0, 2), rows(2, 6)});
  const auto diff = Diff(1, 2);
  ASSERT_TRUE(diff.ok()) << diff.status();
  EXPECT_THAT(diff->told, ElementsAre("UNKNOWN t"));
  EXPECT_EQ(diff->summary.unknown(), 1u);
  EXPECT_EQ(diff->summary.data_bytes(), 6u);
  EXPECT_EQ(diff->summary.identical_bytes(), 0u);
  EXPECT_EQ(diff->summary.unknown_bytes(), 6u);
}

TEST_F(DiffTest, LeavesOfRanksAreComparedRankByRank) {
  const auto own = [](std::string fill) {
    return std::vector<DiffLeaf>{OwnOf(Whole("rng", {4}, std::move(fill)))};
  };
  SaveLeaves(IdOf("r", 1), {own("a"), own("b")});
  SaveLeaves(IdOf("r", 2), {own("a"), own("X"), own("c")});
  SaveLeaves(IdOf("r", 3), {{Whole("rng", {4}, "a")}});
  auto diff = Diff(1, 2);
  ASSERT_TRUE(diff.ok()) << diff.status();
  EXPECT_THAT(diff->told, ElementsAre("CHANGED rng of rank 1", "ADDED rng of rank 2"));
  EXPECT_EQ(diff->summary.identical(), 1u);
  diff = Diff(1, 3);
  ASSERT_TRUE(diff.ok()) << diff.status();
  EXPECT_THAT(diff->told, ElementsAre("RESHAPED rng", "REMOVED rng of rank 1"))
      << "another placement";
}

TEST_F(DiffTest, StorageThatTensorsShareCountsOnce) {
  const auto tied = [](std::string fill) {
    return std::vector<DiffLeaf>{Whole("embedding", {8}, std::move(fill)),
                                 {.key = "head", .shape = {8}, .alias_of = 0}};
  };
  SaveLeaves(IdOf("r", 1), {tied("a")});
  SaveLeaves(IdOf("r", 2), {tied("b")});
  auto diff = Diff(1, 2);
  ASSERT_TRUE(diff.ok()) << diff.status();
  EXPECT_THAT(diff->told, ElementsAre("CHANGED embedding", "CHANGED head"));
  EXPECT_EQ(diff->differences[1].after().alias_of_plus_one(), 0u);
  EXPECT_EQ(diff->summary.data_bytes(), 8u);
  v1::Selection selection;
  selection.add_include("head");
  diff = Diff(1, 1, selection);
  ASSERT_TRUE(diff.ok()) << diff.status();
  EXPECT_EQ(diff->summary.data_bytes(), 8u) << "alone it counts itself";
  EXPECT_EQ(diff->summary.identical_bytes(), 8u);
}

TEST_F(DiffTest, OnlyWhatIsSelectedOnEitherSide) {
  SaveLeaves(IdOf("r", 1), {{Whole("a.x", {4}, "a"), Whole("a.y", {4}, "a"),
                             Whole("b", {4}, "a", v1::DTYPE_U8)}});
  SaveLeaves(IdOf("r", 2), {{Whole("a.x", {4}, "b"), Whole("a.y", {4}, "b"),
                             Whole("b", {4}, "a", v1::DTYPE_BOOL)}});
  v1::Selection selection;
  selection.add_include("a.*");
  selection.add_exclude("**.y");
  auto diff = Diff(1, 2, selection);
  ASSERT_TRUE(diff.ok()) << diff.status();
  EXPECT_THAT(diff->told, ElementsAre("CHANGED a.x"));
  EXPECT_EQ(diff->summary.data_bytes(), 4u);
  selection.Clear();
  selection.add_include_matching()->add_dtypes(v1::DTYPE_BOOL);
  diff = Diff(1, 2, selection);
  ASSERT_TRUE(diff.ok()) << diff.status();
  EXPECT_THAT(diff->told, ElementsAre("RESHAPED b")) << "not ADDED: it was there before";
}

// What the keys rule out is not walked, in neither checkpoint.
TEST_F(DiffTest, ASelectionIsSought) {
  std::vector<DiffLeaf> leaves;
  for (int i = 0; i < 300; ++i) leaves.push_back({.key = absl::StrCat("a", i), .value = 1});
  for (const char* key : {"b", "b.x", "b.y", "bc", "c", "d"}) {
    leaves.push_back({.key = key, .value = 1});
  }
  SaveLeaves(IdOf("r", 1), {leaves});
  for (DiffLeaf& leaf : leaves) leaf.value = 2;
  std::erase_if(leaves, [](const DiffLeaf& leaf) { return leaf.key == "b.x"; });
  SaveLeaves(IdOf("r", 2), {leaves});
  const auto walked = [&](const v1::Selection& proto) {
    const auto selection = LeafSelection::Create(proto);
    const auto record = finder_->Find(StepOf("r", 1), *catalog_->rights, Never);
    auto sequence = OpenLeaves(catalog_->index, catalog_->folder, *record, *selection);
    std::vector<std::string> keys;
    while (true) {
      const auto leaf = (*sequence)->Next();
      EXPECT_TRUE(leaf.ok()) << leaf.status();
      if (!leaf.ok() || *leaf == nullptr) return keys;
      keys.emplace_back((*leaf)->printed_key);
    }
  };
  v1::Selection selection;
  EXPECT_EQ(walked(selection).size(), 306u);
  selection.add_include("b.*");
  *selection.add_keys() = MakeKey({"c"});
  EXPECT_THAT(walked(selection), ElementsAre("b.x", "b.y", "c"));
  auto diff = Diff(1, 2, selection);
  ASSERT_TRUE(diff.ok()) << diff.status();
  EXPECT_THAT(diff->told, ElementsAre("REMOVED b.x", "CHANGED b.y", "CHANGED c"));
  selection.Clear();
  *selection.add_keys() = MakeKey({"b"});
  *selection.add_keys() = MakeKey({"b.y"});
  *selection.add_keys() = MakeKey({"d"});
  EXPECT_THAT(walked(selection), ElementsAre("b", "b.y", "d"));
  diff = Diff(1, 2, selection);
  ASSERT_TRUE(diff.ok()) << diff.status();
  EXPECT_THAT(diff->told, ElementsAre("CHANGED b", "CHANGED b.y", "CHANGED d"));
}

TEST_F(DiffTest, SaysWhatIsWrongWithTheQuestion) {
  Save(IdOf("r", 1));
  EXPECT_TRUE(absl::IsNotFound(Diff(1, 9).status()));
  EXPECT_TRUE(absl::IsNotFound(Diff(9, 1).status()));
  v1::Selection selection;
  *selection.add_keys() = MakeKey({"t0"});
  EXPECT_TRUE(Diff(1, 1, selection).ok());
  *selection.add_keys() = MakeKey({"nowhere"});
  const absl::Status missing = Diff(1, 1, selection).status();
  EXPECT_TRUE(absl::IsNotFound(missing));
  EXPECT_THAT(std::string(missing.message()), HasSubstr("nowhere"));
  SaveLeaves(IdOf("r", 2), {{Whole("weight", {4}, "w")}});
  *selection.add_keys() = MakeKey({"wieght"});
  EXPECT_THAT(std::string(Diff(1, 2, selection).status().message()),
              HasSubstr("neither checkpoint has a key 'nowhere', 'wieght' (nearest: 'weight')"));
  selection.Clear();
  *selection.add_keys() = MakeKey({"weight"});  // of one of the two
  selection.add_exclude("weight");
  EXPECT_TRUE(Diff(1, 2, selection).ok());
  selection.Clear();
  *selection.add_slices()->mutable_key() = MakeKey({"t0"});
  EXPECT_TRUE(absl::IsInvalidArgument(Diff(1, 1, selection).status()));
  selection.Clear();
  selection.add_include("");
  EXPECT_TRUE(absl::IsInvalidArgument(Diff(1, 1, selection).status()));
}

TEST_F(DiffTest, ManyDifferencesComeInManyMessagesUntilTheCallerGoes) {
  std::vector<DiffLeaf> leaves;
  for (int i = 0; i < 8000; ++i) {
    leaves.push_back({.key = absl::StrCat(std::string(200, 'k'), ".", i), .value = i});
  }
  SaveLeaves(IdOf("r", 1), {leaves});
  SaveLeaves(IdOf("r", 2), {{}});
  const auto diff = Diff(1, 2);
  ASSERT_TRUE(diff.ok()) << diff.status();
  EXPECT_EQ(diff->told.size(), 8000u);
  EXPECT_EQ(diff->summary.removed(), 8000u);
  EXPECT_GE(diff->messages, 3u);
  EXPECT_TRUE(std::is_sorted(diff->told.begin(), diff->told.end()));

  v1::DiffCheckpointsRequest request;
  *request.mutable_before() = StepOf("r", 1);
  *request.mutable_after() = StepOf("r", 2);
  size_t sent = 0;
  const auto gone = [&](const v1::DiffCheckpointsResponse&) { return ++sent == 0; };
  EXPECT_TRUE(absl::IsCancelled(DiffCheckpoints(*catalog_, request, Never, gone)));
  EXPECT_EQ(sent, 1u);
}

}  // namespace
}  // namespace ckpt
