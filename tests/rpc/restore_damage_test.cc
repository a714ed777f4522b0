// What a restore says of files that are missing, short or damaged, and that it is another thing
// than a checkpoint that was deleted.
#include <filesystem>
#include <string>

#include "gmock/gmock.h"
#include "tests/rpc/restore_fixture.h"

namespace ckpt {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST_F(RestoreTest, FileShorterThanItsManifestIsDataLoss) {
  Save(IdOf("r", 1), {3 << 20});
  const auto plan = Plan(RequestOf(LatestOf("r")));
  ASSERT_TRUE(plan.ok());
  CutFile(ObjectPath(plan->pieces[0].file_id()), 1 << 20);
  EXPECT_TRUE(absl::IsDataLoss(ReadPiece(*plan, plan->pieces[0]).status()));
}

// What a plan and a read of it say of a committed checkpoint whose data file somebody removed.
TEST_F(RestoreTest, AMissingDataFileIsServedFromMemoryOrIsDataLoss) {
  const CheckpointUid uid = Save(IdOf("r", 1), {3 << 20, 100}, 2);
  memory_.Put(uid, 0, PartBytes(*LayoutOfSizes({3 << 20, 100}), 1));
  for (uint32_t rank = 0; rank < 2; ++rank) {
    const auto part = store_->index().GetPartHead(uid, rank);
    ASSERT_TRUE(part.ok()) << part.status();
    std::filesystem::remove(ObjectPath(part->files(0).file_id()));
  }
  for (const bool with_session : {false, true}) {
    v1::PlanRestoreRequest request = RequestOf(StepOf("r", 1));
    const auto session = sessions_.Open();
    if (with_session) request.set_session_token(session->token().bytes());
    const size_t plans = plans_.count();
    const auto names_the_file =
        AllOf(HasSubstr("r@1"), HasSubstr("rank 1"), HasSubstr(".safetensors is missing"),
              HasSubstr("ckptctl checkpoint verify r@1"));
    if (const auto lost = Plan(request); with_session) {
      // A client library is told of all that is lost, together with all that is there.
      ASSERT_TRUE(lost.ok()) << lost.status();
      ASSERT_EQ(lost->pieces.size(), 4u);
      for (const v1::Piece& piece : lost->pieces) {
        const bool in_memory = piece.tier() == v1::TIER_MEMORY;
        EXPECT_EQ(piece.unreadable().empty(), in_memory);
        EXPECT_EQ(piece.file_id().empty(), !in_memory);
        if (in_memory) continue;
        EXPECT_THAT(piece.unreadable(), names_the_file);
        EXPECT_TRUE(absl::IsDataLoss(ReadPiece(*lost, piece).status()));
      }
    } else {
      EXPECT_TRUE(absl::IsDataLoss(lost.status())) << lost.status();
      EXPECT_THAT(std::string(lost.status().message()), names_the_file);
      EXPECT_EQ(plans_.count(), plans);
    }
    const int grants = session->grants;
    // Of what memory holds all is given.
    request.mutable_selection()->add_include_matching()->add_ranks(0);
    const auto plan = Plan(request);
    ASSERT_TRUE(plan.ok()) << plan.status();
    ASSERT_EQ(plan->pieces.size(), 2u);
    for (const v1::Piece& piece : plan->pieces) {
      EXPECT_EQ(piece.tier(), v1::TIER_MEMORY);
      EXPECT_TRUE(piece.disk_file_id().empty());
      const auto bytes = ReadPiece(*plan, piece);
      ASSERT_TRUE(bytes.ok()) << bytes.status();
      EXPECT_TRUE(Verifies(piece, *bytes));
    }
    EXPECT_EQ(session->grants - grants, with_session ? 1 : 0);
  }
}

// The plan is open already: the file goes, or the memory copy that alone had the bytes.
TEST_F(RestoreTest, AFileThatVanishesUnderAnOpenPlanIsDataLoss) {
  const CheckpointUid uid = Save(IdOf("r", 1), {3 << 20});
  const auto plan = Plan(RequestOf(LatestOf("r")));
  ASSERT_TRUE(plan.ok()) << plan.status();
  std::filesystem::remove(ObjectPath(plan->pieces[0].file_id()));
  const absl::Status lost = ReadPiece(*plan, plan->pieces[0]).status();
  EXPECT_TRUE(absl::IsDataLoss(lost)) << lost;
  EXPECT_THAT(std::string(lost.message()), AllOf(HasSubstr("r@1"), HasSubstr("rank 0")));

  memory_.Put(uid, 0, PartBytes(*LayoutOfSizes({3 << 20}), 1));
  const auto from_memory = Plan(RequestOf(LatestOf("r")));
  ASSERT_TRUE(from_memory.ok()) << from_memory.status();
  for (const auto& entry : std::filesystem::directory_iterator(scratch_.path() + "/memory")) {
    CutFile(entry.path(), 4096);
  }
  const absl::Status cut = ReadPiece(*from_memory, from_memory->pieces[0]).status();
  EXPECT_TRUE(absl::IsDataLoss(cut)) << cut;
}

TEST_F(RestoreTest, AMissingOrDamagedPartManifestIsDataLoss) {
  const CheckpointUid uid = Save(IdOf("r", 1));
  const auto record = store_->index().GetCheckpoint(uid);
  ASSERT_TRUE(record.ok()) << record.status();
  auto index = Index::Open(scratch_.path() + "/lacks-the-part");
  ASSERT_TRUE(index.ok() && (*index)->PutCheckpoint(record->manifest, {}, {}).ok());
  restore_.index = index->get();
  CheckpointFinder finder(index->get(), &store_->folder(), &memory_);
  restore_.finder = &finder;
  const std::string name =
      names::PartManifest(*FileId::FromBytes(record->manifest.parts(0).manifest_id(), "id"));
  const std::string path = store_->folder().ObjectsFolder() + "/" + name;
  FlipByte(path, 40);
  for (const char* what : {"", "is missing"}) {
    const absl::Status lost = Plan(RequestOf(StepOf("r", 1))).status();
    EXPECT_TRUE(absl::IsDataLoss(lost)) << lost;
    EXPECT_THAT(std::string(lost.message()), AllOf(HasSubstr("r@1"), HasSubstr("rank 0"),
                                                   HasSubstr(name), HasSubstr(what)));
    std::filesystem::remove(path);
  }
}

// What makes it NOT_FOUND is that the checkpoint is gone, not that a file is.
TEST_F(RestoreTest, ACheckpointDeletedWhileItIsPlannedIsNotFound) {
  for (const bool in_memory : {false, true}) {
    const CheckpointUid uid = Save(IdOf("r", 1), {3 << 20});
    if (in_memory) memory_.Put(uid, 0, PartBytes(*LayoutOfSizes({3 << 20}), 1));
    const absl::Status gone = PlanRestore(
        restore_, RequestOf(StepOf("r", 1)), Never, [&](const v1::PlanRestoreResponse& message) {
          return !message.has_header() || store_->persister().Delete(uid).ok();
        });
    EXPECT_TRUE(absl::IsNotFound(gone)) << gone;
    EXPECT_THAT(std::string(gone.message()), HasSubstr("r@1 was deleted"));
    EXPECT_EQ(plans_.count(), 0u);
  }
}

}  // namespace
}  // namespace ckpt
