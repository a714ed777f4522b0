// The thread that deletes: on a real store, with MakeRoom as the way to wait until it has looked.
#include "server/retention/retention.h"

#include <filesystem>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/persist/persist_fixture.h"
#include "tests/retention/keep_last.h"

namespace ckpt {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class RetentionTest : public testing::Test {
 protected:
  void SetUp() override { Open(); }

  void Open(RetentionPolicies::Settings settings = {}) {
    retention_.reset();
    store_.reset();
    auto store = Store::Open(path_, &files_);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    const auto report = RecoverDataFolder(&store_->folder(), &store_->index(), {});
    ASSERT_TRUE(report.ok()) << report.status();
    retention_ = std::make_unique<Retention>(
        RetentionOptions{.folder = &store_->folder(),
                         .index = &store_->index(),
                         .persister = &store_->persister(),
                         .settings = std::move(settings),
                         .look_again = absl::Hours(1),
                         .now = [this] { return absl::Now() + later_; }});
  }
  void Start() {
    retention_->Start({.activity = [this](const std::string&) { return activity_; },
                       .deleted =
                           [this](const CheckpointRecord& record) {
                             MutexLock lock(mutex_);
                             told_.push_back(record.manifest.id().step());
                           },
                       .damaged = [this](CheckpointUid uid) { return damaged_.contains(uid); }});
  }
  CheckpointUid Save(const std::string& run, uint64_t step) {
    const CheckpointUid uid = CheckpointUid::TimeOrdered();
    const auto record = store_->Save(IdOf(run, step), uid, {100});
    EXPECT_TRUE(record.ok()) << record.status();
    return uid;
  }
  void SetPolicy(const std::string& run, const v1::RetentionPolicy& policy) {
    const absl::Status set = retention_->SetPolicy(run, policy);
    ASSERT_TRUE(set.ok()) << set;
  }
  // Oldest last.
  std::vector<uint64_t> Steps(const std::string& run) {
    std::vector<uint64_t> steps;
    const absl::Status read =
        store_->index().ForEachCheckpoint(run, std::nullopt, [&](const CheckpointRecord& record) {
          steps.push_back(record.manifest.id().step());
          return true;
        });
    EXPECT_TRUE(read.ok()) << read;
    return steps;
  }
  std::vector<uint64_t> Told() {
    MutexLock lock(mutex_);
    return told_;
  }

  TemporaryFolder scratch_;
  TemporaryFolder shadow_;
  const std::string path_ = scratch_.path() + "/data";
  FaultyFileSystem files_{shadow_.path()};
  RunActivity activity_;   // before Start
  absl::Duration later_;   // before Start
  std::set<CheckpointUid> damaged_;  // before Start
  Mutex mutex_;
  std::vector<uint64_t> told_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<Store> store_;
  std::unique_ptr<Retention> retention_;
};

TEST_F(RetentionTest, WithoutAPolicyNothingIsDeletedAndNothingIsWaitedFor) {
  for (uint64_t step = 1; step <= 3; ++step) Save("r", step);
  Start();
  EXPECT_EQ(retention_->MakeRoom(), DiskRoom::kNone);
  EXPECT_THAT(Steps("r"), ElementsAre(3, 2, 1));
}

TEST_F(RetentionTest, TrimsEachRunByItsPolicyAndTellsOfIt) {
  Open({.defaults = KeepLast(3)});
  for (uint64_t step = 1; step <= 20; ++step) Save("a", step);
  for (uint64_t step = 1; step <= 4; ++step) Save("b", step);
  SetPolicy("a", KeepLast(1));
  Start();
  retention_->MakeRoom();
  EXPECT_THAT(Steps("a"), ElementsAre(20));
  EXPECT_THAT(Steps("b"), ElementsAre(4, 3, 2));
  EXPECT_EQ(Told().size(), 20u);
  EXPECT_EQ(store_->FilesOnDisk().size(), 4u * 3);
  EXPECT_EQ(retention_->MakeRoom(), DiskRoom::kNotNow);
  Save("b", 5);
  EXPECT_EQ(retention_->MakeRoom(), DiskRoom::kMade);
  EXPECT_THAT(Steps("b"), ElementsAre(5, 4, 3));
}

// One that was replaced stays for its tag, unlisted. Without it, it is there again once the attempt
// that replaced it has gone.
TEST_F(RetentionTest, AnAttemptThatComesToLightIsJudgedAtOnce) {
  const CheckpointUid replaced = Save("r", 5);
  const auto label = [&](const v1::Labels& labels) {
    ASSERT_TRUE(store_->folder().WriteLabels(replaced, labels).ok());
    ASSERT_TRUE(store_->index().PutLabels(replaced, labels).ok());
  };
  v1::Labels tagged;
  tagged.add_tags("best");
  label(tagged);
  ASSERT_TRUE(store_->Save(IdOf("r", 5, 9), CheckpointUid::TimeOrdered(), {100}).ok());
  label({});
  ASSERT_TRUE(store_->index().GetCheckpoint(replaced).ok());
  ASSERT_TRUE(store_->Save(IdOf("r", 6, 9), CheckpointUid::TimeOrdered(), {100}).ok());
  SetPolicy("r", KeepLast(1));
  Start();
  retention_->MakeRoom();
  EXPECT_THAT(Steps("r"), ElementsAre(6));
  EXPECT_EQ(store_->FilesOnDisk().size(), 3u);
}

TEST_F(RetentionTest, ARunThatChangedIsLookedAt) {
  SetPolicy("r", KeepLast(1));
  Start();
  for (uint64_t step = 1; step <= 3; ++step) Save("r", step);
  retention_->RunChanged("r");
  const absl::Time patience = absl::Now() + absl::Seconds(60);
  while (Told().size() < 2 && absl::Now() < patience) absl::SleepFor(absl::Milliseconds(5));
  EXPECT_THAT(Told(), ElementsAre(1, 2));  // the oldest first
}

TEST_F(RetentionTest, ADryRunDeletesNothing) {
  for (uint64_t step = 1; step <= 3; ++step) Save("r", step);
  Start();
  const auto plan = retention_->Plan("r", KeepLast(1));
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_EQ(plan->verdicts.size(), 3u);
  EXPECT_TRUE(plan->verdicts[0].keep);
  EXPECT_FALSE(plan->verdicts[1].keep);
  EXPECT_FALSE(plan->verdicts[2].keep);
  const auto own = retention_->Plan("r", std::nullopt);
  ASSERT_TRUE(own.ok()) << own.status();
  EXPECT_TRUE(own->verdicts[2].keep);
  retention_->MakeRoom();
  EXPECT_THAT(Steps("r"), ElementsAre(3, 2, 1));
  EXPECT_TRUE(retention_->Plan("unknown", std::nullopt)->checkpoints.empty());
  v1::RetentionPolicy bad;
  bad.mutable_keep_best();
  EXPECT_TRUE(absl::IsInvalidArgument(retention_->Plan("r", bad).status()));
}

TEST_F(RetentionTest, AfterARebuiltIndexNothingIsDeletedBeforeSomebodyConfirms) {
  for (uint64_t step = 1; step <= 3; ++step) Save("r", step);
  SetPolicy("r", KeepLast(1));
  retention_.reset();
  store_.reset();
  std::filesystem::remove_all(path_ + "/index");
  Open();
  Start();
  EXPECT_TRUE(retention_->AwaitsConfirmation().value());
  EXPECT_TRUE(retention_->Plan("r", std::nullopt)->awaits_confirmation);
  EXPECT_FALSE(retention_->Plan("r", std::nullopt)->verdicts[2].keep);  // what it would do
  EXPECT_EQ(retention_->MakeRoom(), DiskRoom::kNone);
  EXPECT_THAT(Steps("r"), ElementsAre(3, 2, 1));
  Open();  // nor after another start
  Start();
  EXPECT_EQ(retention_->MakeRoom(), DiskRoom::kNone);
  EXPECT_THAT(Steps("r"), ElementsAre(3, 2, 1));
  EXPECT_TRUE(retention_->Confirm().value());
  EXPECT_FALSE(retention_->Confirm().value());
  retention_->MakeRoom();
  EXPECT_THAT(Steps("r"), ElementsAre(3));
}

// Lost, or taken away as the text about a damaged one says: the flags' policy would delete what
// the run's own has kept.
TEST_F(RetentionTest, WhereTheRunsOwnPoliciesHaveGoneNothingIsDeletedBeforeSomebodyConfirms) {
  for (uint64_t step = 1; step <= 3; ++step) Save("r", step);
  SetPolicy("r", KeepLast(10));
  const auto start = [&] {
    Open({.defaults = KeepLast(1)});
    Start();
  };
  std::filesystem::remove(path_ + "/RETENTION");
  start();
  EXPECT_TRUE(retention_->AwaitsConfirmation().value());
  EXPECT_EQ(retention_->MakeRoom(), DiskRoom::kNone);
  SetPolicy("another", KeepLast(3));  // not yet all of them
  start();
  EXPECT_TRUE(retention_->AwaitsConfirmation().value()) << "nor after another start";
  EXPECT_EQ(retention_->MakeRoom(), DiskRoom::kNone);
  SetPolicy("r", KeepLast(2));
  EXPECT_TRUE(retention_->Confirm().value());
  retention_->MakeRoom();
  EXPECT_THAT(Steps("r"), ElementsAre(3, 2));
  start();
  EXPECT_FALSE(retention_->AwaitsConfirmation().value());
}

TEST_F(RetentionTest, PoliciesThatWereNeverSetAreNotMissed) {
  Open({.defaults = KeepLast(1)});
  Start();
  EXPECT_FALSE(retention_->AwaitsConfirmation().value());
  Open();
  Start();
  EXPECT_FALSE(retention_->AwaitsConfirmation().value());
}

// By somebody who does what the text says, on an index that did not know of them.
TEST_F(RetentionTest, ADamagedFileOfPoliciesThatIsTakenAwayIsMissed) {
  for (uint64_t step = 1; step <= 3; ++step) Save("r", step);
  SetPolicy("r", KeepLast(10));
  ASSERT_TRUE(store_->index().SetKnowsPolicies(false).ok());
  FlipByte(path_ + "/RETENTION", 25);
  Open({.defaults = KeepLast(1)});
  Start();
  EXPECT_FALSE(retention_->policies_status().ok());
  std::filesystem::remove(path_ + "/RETENTION");
  Open({.defaults = KeepLast(1)});
  Start();
  EXPECT_TRUE(retention_->AwaitsConfirmation().value());
  EXPECT_EQ(retention_->MakeRoom(), DiskRoom::kNone);
  EXPECT_THAT(Steps("r"), ElementsAre(3, 2, 1));
}

// It was so before the index knew of policies, and is so after it was made anew.
TEST_F(RetentionTest, AnIndexThatKnowsOfNoPoliciesLearnsOfThemAtTheStart) {
  Save("r", 1);
  SetPolicy("r", KeepLast(10));
  ASSERT_TRUE(store_->index().SetKnowsPolicies(false).ok());
  Open();
  Start();
  EXPECT_FALSE(retention_->AwaitsConfirmation().value());
  std::filesystem::remove(path_ + "/RETENTION");
  Open();
  Start();
  EXPECT_TRUE(retention_->AwaitsConfirmation().value());
}

TEST_F(RetentionTest, APinThatCannotBeReadAnyMoreStillHolds) {
  const CheckpointUid first = Save("r", 1);
  const CheckpointUid second = Save("r", 2);
  Save("r", 3);
  v1::Labels pinned;
  pinned.set_pinned(true);
  ASSERT_TRUE(store_->folder().WriteLabels(first, pinned).ok());
  ASSERT_TRUE(store_->folder().WriteLabels(second, pinned).ok());
  SetPolicy("r", KeepLast(1));
  FlipByte(store_->folder().CheckpointsFolder() + "/" + first.hex() + ".labels", 25);
  // The index has not been told of the second one's pin, either.
  Start();
  retention_->MakeRoom();
  EXPECT_THAT(Steps("r"), ElementsAre(3, 2, 1));
}

TEST_F(RetentionTest, AnIndexMadeAnewOfAnEmptyFolderNeedsNoConfirmation) {
  EXPECT_FALSE(retention_->AwaitsConfirmation().value());
}

TEST_F(RetentionTest, WhatIsInFlightProtectsItsPredecessor) {
  for (uint64_t step = 1; step <= 4; ++step) Save("r", step);
  SetPolicy("r", KeepLast(1));
  activity_.steps_in_flight = {3, 5};
  Start();
  retention_->MakeRoom();
  EXPECT_THAT(Steps("r"), ElementsAre(4, 3));
}

// keep-last=2, 400 is good, 500 is known to be damaged, and 600 commits.
TEST_F(RetentionTest, ADamagedCheckpointDoesNotCostTheLastGoodOne) {
  Save("r", 300);
  Save("r", 400);
  damaged_ = {Save("r", 500)};
  Save("r", 600);
  SetPolicy("r", KeepLast(2));
  Start();
  retention_->MakeRoom();
  EXPECT_THAT(Steps("r"), ElementsAre(600, 500, 400));
}

TEST_F(RetentionTest, AgesPass) {
  for (uint64_t step = 1; step <= 3; ++step) Save("r", step);
  v1::RetentionPolicy policy;
  policy.mutable_max_age()->set_seconds(3600);
  SetPolicy("r", policy);
  Start();
  retention_->MakeRoom();
  EXPECT_THAT(Steps("r"), ElementsAre(3, 2, 1));
  later_ = absl::Hours(2);
  Open();
  Start();
  retention_->MakeRoom();
  EXPECT_THAT(Steps("r"), ElementsAre(3));
}

TEST_F(RetentionTest, AnErrorIsTriedAgainAndTheOtherRunsGoOn) {
  const CheckpointUid first = Save("a", 1);
  for (const char* run : {"a", "b"}) {
    for (uint64_t step = 2; step <= 4; ++step) Save(run, step);
    SetPolicy(run, KeepLast(1));
  }
  files_.FailOn(FaultyFileSystem::Call::kUnlink, first.hex(), 1, absl::InternalError("EIO"));
  Start();
  retention_->MakeRoom();
  retention_->MakeRoom();
  EXPECT_THAT(Steps("a"), ElementsAre(4));
  EXPECT_THAT(Steps("b"), ElementsAre(4));
  EXPECT_EQ(Told().size(), 5u);
  Open();  // finishes what was left of the first
  EXPECT_EQ(store_->FilesOnDisk().size(), 2u * 3);
}

TEST_F(RetentionTest, AStoppedOneMakesNoRoom) {
  for (uint64_t step = 1; step <= 3; ++step) Save("r", step);
  Start();
  retention_->MakeRoom();
  retention_->Stop();
  SetPolicy("r", KeepLast(1));
  EXPECT_EQ(retention_->MakeRoom(), DiskRoom::kNone);
  EXPECT_THAT(Told(), IsEmpty());
}

}  // namespace
}  // namespace ckpt
