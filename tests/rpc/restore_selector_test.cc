// Which checkpoint a restore plan is of: `latest`, `latest-valid`, and one answer for all ranks of a
// launch.
#include <string>

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
  EXPECT_EQ(Plan(RequestOf(selector))->header.checkpoint().id().step(), 1u);
  EXPECT_EQ(Plan(RequestOf(LatestOf("r")))->header.checkpoint().id().step(), 2u);
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
  EXPECT_TRUE(absl::IsNotFound(none));
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
