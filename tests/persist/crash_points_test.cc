// The protocols, stopped at every single operation, with and without the loss of what was not
// synced. After each stop the folder is opened as a restarted daemon would.
//
// The oracle: what was committed before is there, byte for byte; what the call reported as
// committed is there; what is visible is whole; and what is not visible is gone from the disk.
#include <filesystem>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/persist/persist_fixture.h"

namespace ckpt {
namespace {

struct CrashCase {
  const char* name;
  bool power_loss;
};

class CrashPoints : public testing::TestWithParam<CrashCase> {
 protected:
  // Runs `protocol` on a store that holds checkpoint `base_`, crashing at operation `number`.
  // False when the protocol ended before it.
  bool CrashAt(uint64_t number, absl::FunctionRef<absl::Status(Store&)> protocol) {
    std::filesystem::remove_all(path_);
    std::filesystem::remove_all(shadow_);
    std::filesystem::create_directory(shadow_);
    {
      auto store = Store::Open(path_);
      EXPECT_TRUE(store.ok()) << store.status();
      EXPECT_TRUE((*store)->Save(IdOf("r", 1, 1), base_, {kMiB + 5, 3}, 2).ok());
    }
    FaultyFileSystem files(shadow_);
    bool reached = false;
    {
      auto store = Store::Open(path_, &files);
      EXPECT_TRUE(store.ok()) << store.status();
      const uint64_t before = files.operations();
      files.CrashAt(before + number);
      outcome_ = protocol(**store);
      reached = files.operations() >= before + number;
    }
    if (GetParam().power_loss) files.PowerLoss();
    auto store = Store::Open(path_);
    EXPECT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    auto report = RecoverDataFolder(&store_->folder(), &store_->index(), {});
    EXPECT_TRUE(report.ok()) << report.status();
    EXPECT_EQ(report->damaged, 0u) << testing::PrintToString(report->damage);
    return reached;
  }
  // Every visible checkpoint is whole, and nothing else lies on disk.
  void CheckVisibleAreWhole(uint32_t base_seed, uint32_t next_seed) {
    size_t files = 0;
    for (const CheckpointUid uid : store_->index().AllCheckpoints()) {
      const absl::Status whole = store_->Check(uid, uid == base_ ? base_seed : next_seed);
      EXPECT_TRUE(whole.ok()) << whole;
      files +=
          1 + 2 * static_cast<size_t>(store_->index().GetCheckpoint(uid)->manifest.parts_size());
    }
    EXPECT_EQ(store_->FilesOnDisk().size(), files);
  }

  TemporaryFolder folder_;
  const std::string path_ = folder_.path() + "/data";
  const std::string shadow_ = folder_.path() + "/shadow";
  const CheckpointUid base_ = CheckpointUid::TimeOrdered();
  const CheckpointUid next_ = CheckpointUid::TimeOrdered();
  absl::Status outcome_;
  std::unique_ptr<Store> store_;
};

TEST_P(CrashPoints, OfASaveNeverShowHalfACheckpoint) {
  uint64_t number = 1;
  for (bool reached = true; reached; ++number) {
    reached = CrashAt(number, [&](Store& store) {
      return store.Save(IdOf("r", 2, 1), next_, {kMiB + 5, 3}, 2, 9).status();
    });
    SCOPED_TRACE(number);
    const bool visible = store_->index().GetCheckpoint(next_).ok();
    EXPECT_TRUE(visible || !outcome_.ok());
    EXPECT_TRUE(store_->index().GetCheckpoint(base_).ok());
    CheckVisibleAreWhole(1, 9);
    store_.reset();
    if (HasFatalFailure() || HasNonfatalFailure()) return;
  }
  EXPECT_TRUE(outcome_.ok());
  EXPECT_GT(number, 15u);
}

TEST_P(CrashPoints, OfAReplacementAlwaysLeaveOneOfTheTwo) {
  for (uint64_t number = 1, reached = 1; reached; ++number) {
    reached = CrashAt(number, [&](Store& store) {
      return store.Save(IdOf("r", 1, 2), next_, {kMiB + 5, 3}, 2, 9).status();
    });
    SCOPED_TRACE(number);
    auto winner = store_->index().FindStep("r", 1, std::nullopt);
    ASSERT_TRUE(winner.ok()) << winner.status();
    EXPECT_TRUE(!outcome_.ok() || winner->manifest.checkpoint_uid() == next_.bytes());
    EXPECT_EQ(store_->index().CheckpointCount(), 1u);
    CheckVisibleAreWhole(1, 9);
    store_.reset();
    if (HasFatalFailure() || HasNonfatalFailure()) return;
  }
}

TEST_P(CrashPoints, OfADeletionAreFinishedAtTheNextStart) {
  for (uint64_t number = 1, reached = 1; reached; ++number) {
    reached = CrashAt(number, [&](Store& store) { return store.persister().Delete(base_); });
    SCOPED_TRACE(number);
    EXPECT_EQ(store_->index().CheckpointCount(), 0u);
    EXPECT_THAT(store_->FilesOnDisk(), testing::IsEmpty());
    store_.reset();
    if (HasFatalFailure() || HasNonfatalFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(All, CrashPoints,
                         testing::Values(CrashCase{"ProcessDies", false},
                                         CrashCase{"PowerLoss", true}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace ckpt
