// Who decides for a run, and what of it outlives a restart.
#include "server/retention/policies.h"

#include "common/limits.h"
#include "common/retention_policy.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/storage/names.h"
#include "tests/persist/persist_fixture.h"
#include "tests/retention/keep_last.h"

namespace ckpt {
namespace {

using ::testing::HasSubstr;

RunPattern Pattern(absl::string_view text) { return *RunPattern::Parse(text); }

class Policies : public testing::Test {
 protected:
  void Open(RetentionPolicies::Settings settings = {}) {
    policies_.reset();
    folder_.reset();
    auto folder = DataFolder::Open(&files_, path_);
    ASSERT_TRUE(folder.ok()) << folder.status();
    folder_ = *std::move(folder);
    policies_ = std::make_unique<RetentionPolicies>(folder_.get(), std::move(settings));
  }
  uint64_t KeepLastOf(const std::string& run, v1::RetentionSource source) {
    const auto holding = policies_->Of(run);
    EXPECT_TRUE(holding.ok()) << holding.status();
    EXPECT_EQ(holding->source, source) << run;
    EXPECT_FALSE(holding->where.empty());
    return holding->policy.keep_last();
  }

  TemporaryFolder scratch_;
  const std::string path_ = scratch_.path() + "/data";
  FaultyFileSystem files_{scratch_.path()};
  std::unique_ptr<DataFolder> folder_;
  std::unique_ptr<RetentionPolicies> policies_;
};

TEST_F(Policies, RunThenFileThenFlags) {
  Open({.defaults = KeepLast(1),
        .sections = {{Pattern("team/a*"), KeepLast(2), "f:1 [team/a*]"},
                     {Pattern("team/*"), KeepLast(3), "f:3 [team/*]"},
                     {Pattern("quiet"), {}, "f:5 [quiet]"}}});
  EXPECT_EQ(KeepLastOf("other", v1::RETENTION_SOURCE_FLAGS), 1u);
  EXPECT_EQ(KeepLastOf("team/abc", v1::RETENTION_SOURCE_FILE), 2u);
  EXPECT_EQ(KeepLastOf("team/b", v1::RETENTION_SOURCE_FILE), 3u);
  EXPECT_EQ(KeepLastOf("quiet", v1::RETENTION_SOURCE_FILE), 0u);
  ASSERT_TRUE(policies_->Set("team/b", KeepLast(4)).ok());
  EXPECT_EQ(KeepLastOf("team/b", v1::RETENTION_SOURCE_RUN), 4u);
  ASSERT_TRUE(policies_->Set("team/b", v1::RetentionPolicy()).ok());
  EXPECT_EQ(KeepLastOf("team/b", v1::RETENTION_SOURCE_RUN), 0u);  // keeps everything
  ASSERT_TRUE(policies_->Set("team/b", std::nullopt).ok());
  ASSERT_TRUE(policies_->Set("team/b", std::nullopt).ok());
  EXPECT_EQ(KeepLastOf("team/b", v1::RETENTION_SOURCE_FILE), 3u);
}

TEST_F(Policies, WithoutSettingsThereIsNone) {
  Open();
  EXPECT_FALSE(policies_->any());
  EXPECT_EQ(KeepLastOf("r", v1::RETENTION_SOURCE_NONE), 0u);
  ASSERT_TRUE(policies_->Set("r", v1::RetentionPolicy()).ok());
  EXPECT_FALSE(policies_->any());
  ASSERT_TRUE(policies_->Set("r", KeepLast(1)).ok());
  EXPECT_TRUE(policies_->any());
}

TEST_F(Policies, OfSingleRunsOutliveARestart) {
  Open();
  ASSERT_TRUE(policies_->Set("a", KeepLast(4)).ok());
  ASSERT_TRUE(policies_->Set("b", KeepLast(5)).ok());
  Open();
  EXPECT_EQ(KeepLastOf("a", v1::RETENTION_SOURCE_RUN), 4u);
  EXPECT_EQ(KeepLastOf("b", v1::RETENTION_SOURCE_RUN), 5u);
}

TEST_F(Policies, WhatCouldNotBeWrittenIsNotInForce) {
  Open();
  ASSERT_TRUE(policies_->Set("a", KeepLast(4)).ok());
  files_.FailOn(FaultyFileSystem::Call::kCreate, names::kRetention, 1,
                absl::ResourceExhaustedError("full"));
  EXPECT_TRUE(absl::IsResourceExhausted(policies_->Set("a", KeepLast(1))));
  EXPECT_EQ(KeepLastOf("a", v1::RETENTION_SOURCE_RUN), 4u);
  Open();
  EXPECT_EQ(KeepLastOf("a", v1::RETENTION_SOURCE_RUN), 4u);
}

TEST_F(Policies, WhatCouldNotBeSyncedIsNotInForceAfterARestartEither) {
  Open();
  ASSERT_TRUE(policies_->Set("a", KeepLast(4)).ok());
  files_.FailOn(FaultyFileSystem::Call::kSyncFolder, path_, 1,
                absl::InternalError("input/output error"));
  EXPECT_FALSE(policies_->Set("a", KeepLast(1)).ok());
  EXPECT_EQ(KeepLastOf("a", v1::RETENTION_SOURCE_RUN), 4u);
  Open();
  EXPECT_EQ(KeepLastOf("a", v1::RETENTION_SOURCE_RUN), 4u);
}

TEST_F(Policies, ADamagedFileIsReportedAndNothingHolds) {
  Open({.defaults = KeepLast(1)});
  ASSERT_TRUE(policies_->Set("a", v1::RetentionPolicy()).ok());
  FlipByte(path_ + "/" + names::kRetention, 30);
  Open({.defaults = KeepLast(1)});
  const absl::Status damaged = policies_->Of("b").status();
  EXPECT_EQ(damaged.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(damaged.message()), HasSubstr("RETENTION"));
  EXPECT_THAT(std::string(damaged.message()), HasSubstr("put the file back"));
  EXPECT_TRUE(absl::IsDataLoss(policies_->Set("a", KeepLast(1))));
  EXPECT_FALSE(policies_->any());
}

TEST_F(Policies, BadOnesAreRefused) {
  Open();
  EXPECT_TRUE(absl::IsInvalidArgument(policies_->Set("../x", KeepLast(1))));
  v1::RetentionPolicy policy;
  policy.mutable_keep_best()->set_metric("loss");
  EXPECT_TRUE(absl::IsInvalidArgument(policies_->Set("r", policy)));
  policy.mutable_keep_best()->set_count(1);
  EXPECT_TRUE(absl::IsInvalidArgument(policies_->Set("r", policy)));
  policy.mutable_keep_best()->set_direction(v1::KeepBest::DIRECTION_MIN);
  EXPECT_TRUE(policies_->Set("r", policy).ok());
  policy.mutable_max_age()->set_seconds(-1);
  EXPECT_TRUE(absl::IsInvalidArgument(policies_->Set("r", policy)));
}

// A later one's: a rule that keeps, left out, would delete. Nor does it fill the file.
TEST_F(Policies, ARuleThatIsNotKnownIsRefused) {
  Open();
  v1::RetentionPolicy policy = KeepLast(1);
  policy.GetReflection()->MutableUnknownFields(&policy)->AddLengthDelimited(1000, "x");
  EXPECT_TRUE(absl::IsInvalidArgument(policies_->Set("r", policy)));
  policy = KeepLast(1);
  policy.mutable_keep_best()->set_metric("loss");
  policy.mutable_keep_best()->set_count(1);
  policy.mutable_keep_best()->set_direction(v1::KeepBest::DIRECTION_MIN);
  EXPECT_TRUE(policies_->Set("r", policy).ok());
  v1::KeepBest& best = *policy.mutable_keep_best();
  best.GetReflection()->MutableUnknownFields(&best)->AddVarint(1000, 1);
  EXPECT_TRUE(absl::IsInvalidArgument(policies_->Set("r", policy)));
}

TEST_F(Policies, TheirNumberIsBounded) {
  Open();
  v1::RetentionPolicies many;
  for (size_t i = 0; i < kRetentionPoliciesMax; ++i) {
    (*many.mutable_runs())["r" + std::to_string(i)] = KeepLast(1);
  }
  ASSERT_TRUE(folder_->WriteRetention(many).ok());
  Open();
  EXPECT_TRUE(absl::IsResourceExhausted(policies_->Set("one-more", KeepLast(1))));
  EXPECT_TRUE(policies_->Set("r5", KeepLast(2)).ok());
}

}  // namespace
}  // namespace ckpt
