// Restore plans over a real index and data folder: what is planned, what is granted, what is read,
// and for how long it stays.
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "common/limits.h"
#include "gmock/gmock.h"
#include "tests/rpc/restore_fixture.h"

namespace ckpt {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST_F(RestoreTest, PlanOfTheWholeCheckpointReadsBackItsBytes) {
  Save(IdOf("r", 1), {3 << 20, 100, 5000}, 2);
  const auto plan = Plan(RequestOf(LatestOf("r")));
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(plan->order, ElementsAre("header", "leaves", "pieces"));
  EXPECT_EQ(plan->header.checkpoint().id().step(), 1u);
  ASSERT_EQ(plan->leaves.size(), 6u);  // PER_RANK: once for each rank
  ASSERT_EQ(plan->pieces.size(), 6u);
  for (size_t i = 0; i < plan->leaves.size(); ++i) {
    EXPECT_EQ(plan->leaves[i].leaf_number(), i);
    EXPECT_TRUE(plan->leaves[i].selected());
  }
  for (const v1::Piece& piece : plan->pieces) {
    EXPECT_EQ(piece.tier(), v1::TIER_DISK);
    EXPECT_TRUE(piece.disk_file_id().empty());
    const auto bytes = ReadPiece(*plan, piece);
    ASSERT_TRUE(bytes.ok()) << bytes.status();
    EXPECT_EQ(bytes->size(), piece.length());
    EXPECT_TRUE(Verifies(piece, *bytes));
  }
}

TEST_F(RestoreTest, ReplicatedAndShardedLeavesAreMergedOverRanks) {
  std::vector<v1::Layout> layouts(2);
  std::vector<v1::Values> values(2);
  for (uint32_t rank = 0; rank < 2; ++rank) {
    v1::Layout& layout = layouts[rank];
    AddTensor(layout, "weight", v1::PLACEMENT_REPLICATED, {4, 2});
    AddTensor(layout, "moment", v1::PLACEMENT_SHARDED, {4});
    AddTensor(layout, "random", v1::PLACEMENT_PER_RANK, {3}, v1::DTYPE_U8);
    v1::Leaf* step = layout.add_leaves();
    *step->mutable_key() = MakeKey({"step"});
    step->set_kind(v1::LEAF_KIND_VALUE);
    step->set_placement(v1::PLACEMENT_REPLICATED);
    v1::Leaf* seed = layout.add_leaves();
    *seed->mutable_key() = MakeKey({"seed"});
    seed->set_kind(v1::LEAF_KIND_VALUE);
    seed->set_placement(v1::PLACEMENT_PER_RANK);
    AddShard(layout, 0, {rank * 2, 0}, {2, 2});
    AddShard(layout, 1, {rank * 2}, {2});
    AddShard(layout, 2, {0}, {3});
    auto* own = values[rank].add_entries();
    own->set_leaf(4);
    own->mutable_value()->set_integer(rank + 70);
  }
  auto* shared = values[1].add_entries();  // written by another rank than the first
  shared->set_leaf(3);
  shared->mutable_value()->set_integer(9);
  SaveLayouts(IdOf("r", 1), layouts, values);

  const auto plan = Plan(RequestOf(LatestOf("r")));
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->leaves.size(), 7u);  // weight, moment, step; random and seed twice
  EXPECT_EQ(plan->Leaf("step")->value().integer(), 9);
  EXPECT_EQ(plan->Leaf("seed", 0)->value().integer(), 70);
  EXPECT_EQ(plan->Leaf("seed", 1)->value().integer(), 71);
  int weight_pieces = 0;
  for (const v1::Piece& piece : plan->pieces) {
    if (piece.leaf_number() == plan->Leaf("weight")->leaf_number()) {
      ++weight_pieces;
      EXPECT_EQ(piece.box().extent(0), 2u);
    }
    EXPECT_TRUE(Verifies(piece, *ReadPiece(*plan, piece)));
  }
  EXPECT_EQ(weight_pieces, 2);
}

TEST_F(RestoreTest, AliasesPointToTheLeafThatHoldsTheBytes) {
  v1::Layout layout;
  AddTensor(layout, "embedding", v1::PLACEMENT_PER_RANK, {8});
  AddTensor(layout, "head", v1::PLACEMENT_PER_RANK, {8})->set_alias_of_plus_one(1);
  AddTensor(layout, "other", v1::PLACEMENT_PER_RANK, {8});
  AddShard(layout, 0, {0}, {8});
  AddShard(layout, 2, {0}, {8});
  SaveLayouts(IdOf("r", 1), {layout});
  v1::PlanRestoreRequest request = RequestOf(LatestOf("r"));
  request.mutable_selection()->add_include("head");
  const auto plan = Plan(request);
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_EQ(plan->leaves.size(), 2u);  // and the one that holds its bytes
  const v1::PlannedLeaf* head = plan->Leaf("head");
  const v1::PlannedLeaf* embedding = plan->Leaf("embedding");
  EXPECT_TRUE(head->selected());
  EXPECT_FALSE(embedding->selected());
  EXPECT_EQ(head->alias_of(), embedding->leaf_number());
  EXPECT_EQ(head->leaf().alias_of_plus_one(), 0u);
  ASSERT_EQ(plan->pieces.size(), 1u);
  EXPECT_EQ(plan->pieces[0].leaf_number(), embedding->leaf_number());
}

TEST_F(RestoreTest, SlicesLimitPiecesAndHashes) {
  v1::Layout layout;
  AddTensor(layout, "rows", v1::PLACEMENT_PER_RANK, {8, 1 << 20}, v1::DTYPE_U8);
  for (uint64_t half = 0; half < 2; ++half) AddShard(layout, 0, {half * 4, 0}, {4, 1 << 20});
  SaveLayouts(IdOf("r", 1), {layout});
  v1::PlanRestoreRequest request = RequestOf(LatestOf("r"));
  auto* slice = request.mutable_selection()->add_slices();
  *slice->mutable_key() = MakeKey({"rows"});
  Box({.offset = {5, 10}, .extent = {2, 3}}).ToProto(slice->mutable_box());
  const auto plan = Plan(request);
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_EQ(plan->pieces.size(), 1u);
  EXPECT_EQ(plan->pieces[0].box().offset(0), 4u);  // the whole stored shard is described
  EXPECT_EQ(plan->pieces[0].length(), 4u << 20);
  EXPECT_EQ(plan->pieces[0].first_block(), 1u);
  EXPECT_EQ(plan->pieces[0].block_hashes_size(), 2);
  EXPECT_TRUE(Verifies(plan->pieces[0], *ReadPiece(*plan, plan->pieces[0])));

  Box({.offset = {7, 0}, .extent = {2, 1}}).ToProto(slice->mutable_box());
  EXPECT_TRUE(absl::IsInvalidArgument(Plan(request).status()));
}

// The file is the truth: what the index cannot give is read from there.
TEST_F(RestoreTest, PartsThatTheIndexLacksComeFromTheirFiles) {
  v1::Layout layout;
  v1::Values values;
  for (uint32_t i = 0; i < 200; ++i) {
    AddTensor(layout, "t" + std::to_string(i), v1::PLACEMENT_PER_RANK, {5});
    AddShard(layout, i, {0}, {5});
  }
  v1::Leaf* seed = layout.add_leaves();
  *seed->mutable_key() = MakeKey({"seed"});
  seed->set_kind(v1::LEAF_KIND_VALUE);
  seed->set_placement(v1::PLACEMENT_PER_RANK);
  values.add_entries()->set_leaf(200);
  values.mutable_entries(0)->mutable_value()->set_integer(42);
  const CheckpointUid uid = SaveLayouts(IdOf("r", 1), {layout, layout}, {values, values});
  const auto record = store_->index().GetCheckpoint(uid);
  ASSERT_TRUE(record.ok()) << record.status();
  std::vector<v1::PartManifest> parts;
  for (const v1::PartReference& reference : record->manifest.parts()) {
    parts.push_back(*store_->folder().ReadPartManifest(reference));
  }
  enum Lack { kNothing, kPart, kHashes };
  for (const Lack lack : {kNothing, kPart, kHashes}) {
    auto index = Index::Open(scratch_.path() + "/index" + std::to_string(lack));
    ASSERT_TRUE(index.ok()) << index.status();
    std::vector<v1::PartManifest> known = parts;
    if (lack == kPart) known.pop_back();
    if (lack == kHashes) known[1].mutable_block_hashes()->Truncate(150);
    ASSERT_TRUE((*index)->PutCheckpoint(record->manifest, known, {}).ok());
    restore_.index = index->get();
    CheckpointFinder finder(index->get(), &store_->folder(), &memory_);
    restore_.finder = &finder;
    const auto plan = Plan(RequestOf(StepOf("r", 1)));
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_EQ(plan->leaves.size(), 402u) << lack;
    EXPECT_EQ(plan->pieces.size(), 400u) << lack;
    EXPECT_EQ(plan->Leaf("seed", 1)->value().integer(), 42) << lack;
    for (const v1::Piece& piece : plan->pieces) {
      EXPECT_EQ(piece.block_hashes_size(), 1);
      EXPECT_TRUE(Verifies(piece, *ReadPiece(*plan, piece))) << lack;
    }
  }
}

// Damage that is met in the middle of a plan: the rest comes from the file.
TEST_F(RestoreTest, ADamagedTableOfTheIndexIsReadAround) {
  constexpr uint32_t kLeaves = 10000;
  v1::Layout layout;  // long keys fill the index's tables
  for (uint32_t i = 0; i < kLeaves; ++i) {
    AddTensor(layout, std::string(3000, 'x') + std::to_string(i), v1::PLACEMENT_PER_RANK, {1});
    AddShard(layout, i, {0}, {1});
  }
  const CheckpointUid uid = SaveLayouts(IdOf("r", 1), {layout});
  const auto record = store_->index().GetCheckpoint(uid);
  ASSERT_TRUE(record.ok()) << record.status();
  const auto part = store_->folder().ReadPartManifest(record->manifest.parts(0));
  ASSERT_TRUE(part.ok()) << part.status();
  const std::string path = scratch_.path() + "/damaged";
  auto index = Index::Open(path);
  ASSERT_TRUE(index.ok() && (*index)->PutCheckpoint(record->manifest, {*part}, {}).ok());
  index->reset();
  for (const auto& file : std::filesystem::directory_iterator(path)) {
    if (file.path().extension() == ".sst") FlipByte(file.path(), file.file_size() / 2);
  }
  index = Index::Open(path);
  ASSERT_TRUE(index.ok()) << index.status();
  const auto cursor = (*index)->OpenLeaves(part->layout_digest());
  ASSERT_TRUE(cursor.ok()) << cursor.status();
  absl::Status status = (*cursor)->Seek("");
  while (status.ok() && (*cursor)->valid()) status = (*cursor)->Next();
  ASSERT_TRUE(absl::IsDataLoss(status)) << status;  // or else nothing is tested

  restore_.index = index->get();
  CheckpointFinder finder(index->get(), &store_->folder(), &memory_);
  restore_.finder = &finder;
  const auto plan = Plan(RequestOf(StepOf("r", 1)));
  ASSERT_TRUE(plan.ok()) << plan.status();
  std::set<std::string> keys;
  for (const v1::PlannedLeaf& leaf : plan->leaves) keys.insert(PrintKey(leaf.leaf().key()));
  EXPECT_EQ(plan->leaves.size(), kLeaves);
  EXPECT_EQ(keys.size(), kLeaves);
  EXPECT_EQ(plan->pieces.size(), kLeaves);
}

TEST_F(RestoreTest, SelectionErrors) {
  Save(IdOf("r", 1), {10, 10});
  v1::PlanRestoreRequest request = RequestOf(LatestOf("r"));
  *request.mutable_selection()->add_keys() = MakeKey({"t7"});
  *request.mutable_selection()->add_keys() = MakeKey({"t0"});
  *request.mutable_selection()->add_keys() = MakeKey({"far away"});
  const std::string token = sessions_.Open()->token().bytes();
  for (const std::string& session : {std::string(), token}) {
    request.set_session_token(session);
    for (const bool summary_only : {false, true}) {
      request.set_summary_only(summary_only);
      const absl::Status missing = Plan(request).status();
      EXPECT_TRUE(absl::IsNotFound(missing)) << missing;
      EXPECT_THAT(std::string(missing.message()), HasSubstr("'far away', 't7'"));
    }
  }
  EXPECT_EQ(plans_.count(), 0u);
  request.mutable_selection()->add_include("");
  EXPECT_TRUE(absl::IsInvalidArgument(Plan(request).status()));
}

TEST_F(RestoreTest, MemoryComesFirstWithTheDiskToFallBackTo) {
  const CheckpointUid uid = Save(IdOf("r", 1), {3 << 20, 100});
  memory_.Put(uid, 0, PartBytes(*LayoutOfSizes({3 << 20, 100}), 1));
  const auto plan = Plan(RequestOf(LatestOf("r")));
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_TRUE(plan->header.checkpoint().in_memory());
  for (const v1::Piece& piece : plan->pieces) {
    EXPECT_EQ(piece.tier(), v1::TIER_MEMORY);
    EXPECT_FALSE(piece.disk_file_id().empty());
    EXPECT_TRUE(Verifies(piece, *ReadPiece(*plan, piece)));
  }
  // A memory copy that somebody cut is read from disk.
  for (const auto& entry : std::filesystem::directory_iterator(scratch_.path() + "/memory")) {
    CutFile(entry.path(), 4096);
  }
  for (const v1::Piece& piece : plan->pieces) {
    EXPECT_TRUE(Verifies(piece, *ReadPiece(*plan, piece)));
  }
}

TEST_F(RestoreTest, SessionGetsEachFileOnceBeforeItsPieces) {
  const CheckpointUid uid = Save(IdOf("r", 1), {3 << 20, 100, 7}, 2);
  memory_.Put(uid, 1, PartBytes(*LayoutOfSizes({3 << 20, 100, 7}), 2));
  const auto session = sessions_.Open();
  v1::PlanRestoreRequest request = RequestOf(LatestOf("r"));
  request.set_session_token(session->token().bytes());
  const auto plan = Plan(request);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(session->grants, 3);  // two data files, one memory copy
  for (const v1::Piece& piece : plan->pieces) {
    const auto granted = session->granted.find(piece.file_id());
    ASSERT_NE(granted, session->granted.end());
    EXPECT_TRUE(Verifies(piece, granted->second.substr(piece.file_offset(), piece.length())));
    if (piece.tier() != v1::TIER_MEMORY) continue;
    const auto disk = session->granted.find(piece.disk_file_id());
    ASSERT_NE(disk, session->granted.end());
    EXPECT_TRUE(Verifies(piece, disk->second.substr(piece.disk_file_offset(), piece.length())));
  }
  EXPECT_EQ(memory_.pinned(), 1);
  v1::ReleasePlanRequest release;
  release.set_plan_id(plan->header.plan_id());
  EXPECT_TRUE(ReleasePlan(restore_, release).ok());
  EXPECT_TRUE(ReleasePlan(restore_, release).ok());  // idempotent
  EXPECT_EQ(memory_.pinned(), 0);
  EXPECT_EQ(session->watchers(), 0u);
}

TEST_F(RestoreTest, UnknownSessionsAreUnauthenticated) {
  Save(IdOf("r", 1));
  v1::PlanRestoreRequest request = RequestOf(LatestOf("r"));
  for (const std::string& token : {std::string("guess"), std::string(16, '\7')}) {
    request.set_session_token(token);
    EXPECT_TRUE(absl::IsUnauthenticated(Plan(request).status()));
  }
}

TEST_F(RestoreTest, PlanKeepsFilesOfADeletedCheckpointUntilReleased) {
  const CheckpointUid uid = Save(IdOf("r", 1), {3 << 20});
  const auto plan = Plan(RequestOf(LatestOf("r")));
  ASSERT_TRUE(plan.ok()) << plan.status();
  const std::string path = ObjectPath(plan->pieces[0].file_id());
  ASSERT_TRUE(store_->persister().Delete(uid).ok());
  EXPECT_TRUE(absl::IsNotFound(Plan(RequestOf(LatestOf("r"))).status()));
  EXPECT_TRUE(Verifies(plan->pieces[0], *ReadPiece(*plan, plan->pieces[0])));
  v1::ReleasePlanRequest release;
  release.set_plan_id(plan->header.plan_id());
  ASSERT_TRUE(ReleasePlan(restore_, release).ok());
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_TRUE(absl::IsNotFound(ReadPiece(*plan, plan->pieces[0]).status()));
}

TEST_F(RestoreTest, PlanEndsWithItsSession) {
  Save(IdOf("r", 1));
  const auto session = sessions_.Open();
  v1::PlanRestoreRequest request = RequestOf(LatestOf("r"));
  request.set_session_token(session->token().bytes());
  const auto plan = Plan(request);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plans_.count(), 1u);
  session->Close();
  EXPECT_EQ(plans_.count(), 0u);
}

TEST_F(RestoreTest, LeaseEndsAPlanWithoutASession) {
  const auto plan = std::make_shared<OpenPlan>(&store_->folder(), v1::CheckpointId());
  ASSERT_TRUE(plans_.Add(plan, nullptr, absl::Milliseconds(1)).ok());
  const absl::Time deadline = absl::Now() + absl::Seconds(30);
  while (plans_.count() > 0 && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_EQ(plans_.count(), 0u);
  EXPECT_TRUE(absl::IsNotFound(plans_.Find(plan->id().bytes()).status()));
}

TEST_F(RestoreTest, OpenPlansAreBounded) {
  PlanTable table(2);
  const auto add = [&] {
    return table.Add(std::make_shared<OpenPlan>(&store_->folder(), v1::CheckpointId()), nullptr,
                     absl::Hours(1));
  };
  EXPECT_TRUE(add().ok());
  EXPECT_TRUE(add().ok());
  EXPECT_TRUE(absl::IsResourceExhausted(add()));
}

TEST_F(RestoreTest, ReadPiecesChecksRanges) {
  Save(IdOf("r", 1), {100});
  const auto plan = Plan(RequestOf(LatestOf("r")));
  ASSERT_TRUE(plan.ok());
  const auto read = [&](uint32_t piece, uint64_t offset, uint64_t length) {
    v1::ReadPiecesRequest request;
    request.set_plan_id(plan->header.plan_id());
    auto* range = request.add_ranges();
    range->set_piece_number(piece);
    range->set_offset(offset);
    range->set_length(length);
    return ReadPieces(restore_, request, Never, [](const v1::ReadPiecesResponse&) { return true; });
  };
  EXPECT_TRUE(read(0, 90, 10).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(read(0, 90, 11)));
  EXPECT_TRUE(absl::IsInvalidArgument(read(0, 101, 0)));
  EXPECT_TRUE(absl::IsInvalidArgument(read(0, 1, ~uint64_t{0})));
  EXPECT_TRUE(absl::IsInvalidArgument(read(1, 0, 1)));
  v1::ReadPiecesRequest unknown;
  unknown.set_plan_id("nonsense");
  EXPECT_TRUE(absl::IsInvalidArgument(
      ReadPieces(restore_, unknown, Never, [](const v1::ReadPiecesResponse&) { return true; })));
}

TEST_F(RestoreTest, ManyLeavesComeInBoundedMessages) {
  v1::Layout layout;
  for (uint32_t i = 0; i < 20000; ++i) {
    const std::string name = "layer-with-a-rather-long-name-" + std::to_string(i);
    AddTensor(layout, name, v1::PLACEMENT_PER_RANK, {2}, v1::DTYPE_U8);
    AddShard(layout, i, {0}, {2});
  }
  SaveLayouts(IdOf("r", 1), {layout});
  const auto plan = Plan(RequestOf(LatestOf("r")));  // the fixture checks each message
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->leaves.size(), 20000u);
  EXPECT_EQ(plan->pieces.size(), 20000u);
  EXPECT_GT(plan->order.size(), 3u);
}

TEST_F(RestoreTest, ADryRunSaysWhatWouldMoveAndOpensNothing) {
  const CheckpointUid uid = Save(IdOf("r", 1), {3 << 20, 100}, 2);
  memory_.Put(uid, 1, PartBytes(*LayoutOfSizes({3 << 20, 100}), 2));
  v1::PlanRestoreRequest request = RequestOf(LatestOf("r"));
  const auto session = sessions_.Open();
  request.set_session_token(session->token().bytes());
  request.set_summary_only(true);
  auto* slice = request.mutable_selection()->add_slices();
  *slice->mutable_key() = MakeKey({"t0"});
  Box({.offset = {(1 << 20) + 5}, .extent = {10}}).ToProto(slice->mutable_box());
  const auto plan = Plan(request);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(plan->order, ElementsAre("header"));
  EXPECT_TRUE(plan->header.plan_id().empty());
  EXPECT_EQ(plan->summary.leaves(), 4u);
  EXPECT_EQ(plan->summary.tensors(), 4u);
  EXPECT_EQ(plan->summary.bytes(), 2 * (10u + 100u));
  EXPECT_EQ(plan->summary.bytes_from_memory(), (1u << 20) + 100);  // one block of t0
  EXPECT_EQ(plan->summary.bytes_from_disk(), (1u << 20) + 100);
  EXPECT_EQ(plans_.count(), 0u);
  EXPECT_EQ(memory_.pinned(), 0);
  EXPECT_EQ(session->grants, 0);
}

TEST_F(RestoreTest, LeavesOnlyOpensNoPlan) {
  Save(IdOf("r", 1));
  v1::PlanRestoreRequest request = RequestOf(LatestOf("r"));
  request.set_leaves_only(true);
  const auto plan = Plan(request);
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->leaves.size(), 1u);
  EXPECT_TRUE(plan->pieces.empty());
  EXPECT_EQ(plans_.count(), 0u);
}

TEST_F(RestoreTest, BrokenStreamLeavesNoPlanBehind) {
  Save(IdOf("r", 1));
  const absl::Status status =
      PlanRestore(restore_, RequestOf(LatestOf("r")), Never,
                  [](const v1::PlanRestoreResponse& message) { return !message.has_pieces(); });
  EXPECT_TRUE(absl::IsCancelled(status)) << status;
  EXPECT_EQ(plans_.count(), 0u);
  EXPECT_TRUE(absl::IsCancelled(
      PlanRestore(restore_, RequestOf(LatestOf("r")), Never,
                  [](const v1::PlanRestoreResponse& message) { return !message.has_summary(); })));
  EXPECT_EQ(plans_.count(), 0u);
}

}  // namespace
}  // namespace ckpt
