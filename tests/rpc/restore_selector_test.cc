// Which checkpoint a restore plan is of: `latest`, `latest-valid`, and one answer for all ranks of
// a launch.
#include <filesystem>
#include <functional>
#include <string>

#include "common/limits.h"
#include "gmock/gmock.h"
#include "tests/rpc/restore_fixture.h"

namespace ckpt {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST_F(RestoreTest, LatestWaitsUntilStagedOnesHaveSettled) {
  Save(IdOf("r", 1));
  live_.settle = [this] {
    Save(IdOf("r", 2));
    return absl::OkStatus();
  };
  EXPECT_EQ(Plan(RequestOf(LatestOf("r")))->header.checkpoint().id().step(), 2u);
  live_.settle = [] { return absl::DeadlineExceededError("still staged"); };
  EXPECT_TRUE(absl::IsDeadlineExceeded(Plan(RequestOf(LatestOf("r"))).status()));
  EXPECT_TRUE(Plan(RequestOf(StepOf("r", 1))).ok());  // an exact one does not wait
  v1::PlanRestoreRequest request = RequestOf(LatestOf("r"));
  request.mutable_settle_timeout()->set_seconds(-1);
  EXPECT_TRUE(absl::IsInvalidArgument(Plan(request).status()));
}

TEST_F(RestoreTest, LatestValidPassesOverDamage) {
  Save(IdOf("r", 1), {2 << 20});
  const CheckpointUid damaged = Save(IdOf("r", 2), {2 << 20});
  const auto part = store_->index().GetPartHead(damaged, 0);
  FlipByte(ObjectPath(part->files(0).file_id()), part->files(0).header_length() + 5);
  v1::Selector selector;
  selector.set_run("r");
  selector.set_latest_valid(true);
  EXPECT_EQ(Plan(RequestOf(LatestOf("r")))->header.checkpoint().id().step(), 2u);  // nobody knows
  EXPECT_EQ(Plan(RequestOf(selector))->header.checkpoint().id().step(), 1u);
  EXPECT_EQ(Plan(RequestOf(LatestOf("r")))->header.checkpoint().id().step(), 1u);
  memory_.Put(damaged, 0, "its bytes");
  EXPECT_EQ(Plan(RequestOf(LatestOf("r")))->header.checkpoint().id().step(), 2u);
  EXPECT_EQ(Plan(RequestOf(selector))->header.checkpoint().id().step(), 1u);
  memory_.Drop(damaged);
  EXPECT_EQ(Plan(RequestOf(LatestOf("r")))->header.checkpoint().id().step(), 1u);
}

// Of each kind of damage; and nothing of the restore that was chosen is damaged.
TEST_F(RestoreTest, LatestValidPassesOverEveryKindOfDamage) {
  v1::Selector selector;
  selector.set_run("r");
  selector.set_latest_valid(true);
  Save(IdOf("r", 1), {2 << 20});
  const auto manifest_path = [&](const std::string& uid) {
    return store_->folder().CheckpointsFolder() + "/" +
           names::CheckpointManifest(*CheckpointUid::FromBytes(uid, "uid"));
  };
  using Damage = std::function<void(const CheckpointRecord&, const v1::DataFile&)>;
  const std::pair<const char*, Damage> kinds[] = {
      {"data block", [&](const CheckpointRecord&, const v1::DataFile& file) {
         FlipByte(ObjectPath(file.file_id()), file.length() - 1);
       }},
      {"header", [&](const CheckpointRecord&, const v1::DataFile& file) {
         FlipByte(ObjectPath(file.file_id()), file.header_length() - 1);
       }},
      {"short data file", [&](const CheckpointRecord&, const v1::DataFile& file) {
         CutFile(ObjectPath(file.file_id()), file.length() - 1);
       }},
      {"missing data file", [&](const CheckpointRecord&, const v1::DataFile& file) {
         std::filesystem::remove(ObjectPath(file.file_id()));
       }},
      {"part manifest", [&](const CheckpointRecord& record, const v1::DataFile&) {
         FlipByte(PartPath(record), 40);
       }},
      {"missing part manifest", [&](const CheckpointRecord& record, const v1::DataFile&) {
         std::filesystem::remove(PartPath(record));
       }},
      {"checkpoint manifest", [&](const CheckpointRecord& record, const v1::DataFile&) {
         FlipByte(manifest_path(record.manifest.checkpoint_uid()), 40);
       }},
      {"missing checkpoint manifest", [&](const CheckpointRecord& record, const v1::DataFile&) {
         std::filesystem::remove(manifest_path(record.manifest.checkpoint_uid()));
       }},
  };
  uint64_t step = 1;
  for (const auto& [kind, damage] : kinds) {
    SCOPED_TRACE(kind);
    const CheckpointUid uid = Save(IdOf("r", ++step), {2 << 20});
    const auto record = store_->index().GetCheckpoint(uid);
    damage(*record, store_->index().GetPartHead(uid, 0)->files(0));
    EXPECT_EQ(finder_->damage().count(), step - 2) << "nobody has read it yet";
    for (int again = 0; again < 2; ++again) {
      const auto plan = Plan(RequestOf(selector));
      ASSERT_TRUE(plan.ok()) << plan.status();
      EXPECT_EQ(plan->header.checkpoint().id().step(), 1u);
      EXPECT_TRUE(Verifies(plan->pieces[0], *ReadPiece(*plan, plan->pieces[0])));
    }
    ASSERT_TRUE(finder_->damage().Find(uid).has_value());
    EXPECT_EQ(store_->index().FindLatest("r", kStepMax, true)->manifest.id().step(), step);
  }
}

// Labels are no part of what is restored.
TEST_F(RestoreTest, LatestValidTakesACheckpointWhoseLabelsAloneAreDamaged) {
  v1::Selector selector;
  selector.set_run("r");
  selector.set_latest_valid(true);
  Save(IdOf("r", 1), {2 << 20});
  const CheckpointUid uid = Save(IdOf("r", 2), {2 << 20});
  v1::Labels labels;
  labels.set_note("x");
  ASSERT_TRUE(store_->folder().WriteLabels(uid, labels).ok());
  FlipByte(store_->folder().CheckpointsFolder() + "/" + names::Labels(uid), 20);
  for (int again = 0; again < 2; ++again) {
    EXPECT_EQ(Plan(RequestOf(selector))->header.checkpoint().id().step(), 2u);
  }
  EXPECT_TRUE(finder_->damage().Find(uid)->labels_only);
}

TEST_F(RestoreTest, LatestValidOfDamagedOnesAloneIsDataLoss) {
  v1::Selector selector;
  selector.set_run("r");
  selector.set_latest_valid(true);
  EXPECT_TRUE(absl::IsNotFound(Plan(RequestOf(selector)).status()));  // no checkpoint at all
  for (const uint64_t step : {1, 2}) {
    const auto part = store_->index().GetPartHead(Save(IdOf("r", step)), 0);
    ASSERT_TRUE(part.ok()) << part.status();
    std::filesystem::remove(ObjectPath(part->files(0).file_id()));
  }
  const absl::Status damaged = Plan(RequestOf(selector)).status();
  EXPECT_TRUE(absl::IsDataLoss(damaged)) << damaged;
  EXPECT_THAT(std::string(damaged.message()), HasSubstr("2, 1"));
}

TEST_F(RestoreTest, ShareSmallerThanItsWorldIsNeverLatest) {
  Save(IdOf("r", 1));
  const CheckpointId id = IdOf("r", 2);
  const CheckpointUid uid = CheckpointUid::TimeOrdered();
  PartToPersist part = MakePart(id, uid, LayoutOfSizes({10}), 1, 0, 4);
  part.share = {0};
  const auto durable = store_->Persist(part);
  ASSERT_TRUE(durable.ok()) << durable.status();
  ASSERT_TRUE(store_->persister().Commit(id, uid, 4, {0}, {*durable}).ok());
  EXPECT_EQ(Plan(RequestOf(LatestOf("r")))->header.checkpoint().id().step(), 1u);
  EXPECT_EQ(Plan(RequestOf(StepOf("r", 2)))->header.checkpoint().world_size(), 4u);
  ASSERT_TRUE(store_->persister()
                  .Delete(*CheckpointUid::FromBytes(
                      Plan(RequestOf(LatestOf("r")))->header.checkpoint().checkpoint_uid(), "uid"))
                  .ok());
  const absl::Status none = Plan(RequestOf(LatestOf("r"))).status();
  // Not NOT_FOUND, which a trainer takes for a fresh start.
  EXPECT_TRUE(absl::IsFailedPrecondition(none)) << none;
  EXPECT_THAT(std::string(none.message()), AllOf(HasSubstr("1 of 4"), HasSubstr("step 2")));
}

class RestoreGroupTest : public RestoreTest {
 protected:
  absl::StatusOr<uint64_t> Ask(const std::shared_ptr<FakeSession>& rank, uint8_t incarnation,
                               uint32_t world_size = 2) {
    v1::PlanRestoreRequest request = RequestOf(LatestOf("r"));
    request.mutable_group()->set_incarnation(IncarnationOf(incarnation).bytes());
    request.mutable_group()->set_world_size(world_size);
    if (rank != nullptr) request.set_session_token(rank->token().bytes());
    const auto plan = Plan(request);
    if (!plan.ok()) return plan.status();
    return plan->header.checkpoint().id().step();
  }
};

TEST_F(RestoreGroupTest, AllRanksOfALaunchGetOneAnswer) {
  Save(IdOf("r", 1, 1));
  const auto rank0 = sessions_.Open();
  const auto rank1 = sessions_.Open();
  EXPECT_EQ(*Ask(rank0, 5), 1u);
  Save(IdOf("r", 2, 1));  // of an older launch, adopted late
  EXPECT_EQ(*Ask(rank1, 5), 1u);
  EXPECT_EQ(*Ask(rank0, 5), 1u);  // asked again: a retry, or the other half of the state
  const auto stranger = sessions_.Open();
  EXPECT_EQ(*Ask(stranger, 6), 2u);  // another launch
}

TEST_F(RestoreGroupTest, ALaunchThatRollsBackGetsItsOwnNewest) {
  Save(IdOf("r", 1, 1));
  const auto rank0 = sessions_.Open();
  const auto rank1 = sessions_.Open();
  EXPECT_EQ(*Ask(rank0, 5), 1u);
  EXPECT_EQ(*Ask(rank1, 5), 1u);
  Save(IdOf("r", 10, 5));  // what the launch itself committed
  EXPECT_EQ(*Ask(rank0, 5), 10u);
  Save(IdOf("r", 11, 5));
  EXPECT_EQ(*Ask(rank1, 5), 10u);
}

TEST_F(RestoreGroupTest, CallersWithoutASessionAreCounted) {
  Save(IdOf("r", 1, 1));
  EXPECT_EQ(*Ask(nullptr, 5), 1u);
  Save(IdOf("r", 10, 5));
  EXPECT_EQ(*Ask(nullptr, 5), 1u);
  EXPECT_EQ(*Ask(nullptr, 5), 10u);
}

TEST_F(RestoreGroupTest, DeletedAnswerIsSaidNotReplaced) {
  Save(IdOf("r", 1, 1));
  const CheckpointUid uid = Save(IdOf("r", 2, 1));
  EXPECT_EQ(*Ask(sessions_.Open(), 5), 2u);
  ASSERT_TRUE(store_->persister().Delete(uid).ok());
  EXPECT_TRUE(absl::IsNotFound(Ask(sessions_.Open(), 5).status()));
}

TEST_F(RestoreGroupTest, GroupsAreChecked) {
  Save(IdOf("r", 1, 1));
  EXPECT_TRUE(absl::IsInvalidArgument(Ask(nullptr, 5, 0).status()));
  v1::PlanRestoreRequest request = RequestOf(LatestOf("r"));
  request.mutable_group()->set_incarnation("short");
  request.mutable_group()->set_world_size(1);
  EXPECT_TRUE(absl::IsInvalidArgument(Plan(request).status()));
}

}  // namespace
}  // namespace ckpt
