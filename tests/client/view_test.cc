// RestorePlan::View against a fake daemon: what is mapped, what is refused, and what a view
// outlives.
#include <sys/wait.h>

#include "gmock/gmock.h"
#include "tests/client/restore_fixture.h"

namespace ckpt {
namespace {

using ::testing::HasSubstr;

class ViewTest : public RestoreTest {
 protected:
  static std::string Bytes(const TensorView& view) {
    return {reinterpret_cast<const char*>(view.bytes().data()), view.bytes().size()};
  }
  void ExpectRefused(RestorePlan& plan, uint32_t leaf, const Box& region, const std::string& text) {
    const absl::Status status = plan.View(leaf, region).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(text));
  }
};

TEST_F(ViewTest, ShowsTheFileOfTheDiskTierAlsoWhereMemoryIsPlanned) {
  Damage(memory_, 0, 5);  // which a view would show
  for (const v1::Tier tier : {v1::TIER_MEMORY, v1::TIER_DISK}) {
    tier_ = tier;
    const auto plan = MakePlan();
    for (const auto& [leaf, box] : std::vector<std::pair<uint32_t, Box>>{
             {0, Box{{0, 0}, {30, 120007}}},     // a whole shard
             {0, Box{{11, 0}, {7, 120007}}},     // rows
             {0, Box{{35, 119000}, {1, 1007}}},  // part of a row of the second shard
             {1, Box{{0, 300}, {64, 700}}},      // a shard of columns is dense, too
             {1, Box{{3, 300}, {1, 5}}},
             {9, Box{{0, 0}, {1, tensors_[9].columns}}}}) {
      const auto view = plan->View(leaf, box);
      ASSERT_TRUE(view.ok()) << view.status();
      EXPECT_TRUE(Bytes(*view) == Slice(tensors_[leaf], box)) << leaf << " " << box.ToString();
      EXPECT_TRUE(view->Verify().ok()) << view->Verify();
    }
  }
}

TEST_F(ViewTest, AnEmptyRegionIsAnEmptyView) {
  const auto view = MakePlan()->View(0, Box{{5, 0}, {0, 120007}});
  ASSERT_TRUE(view.ok()) << view.status();
  EXPECT_TRUE(view->bytes().empty());
  EXPECT_TRUE(view->Verify().ok());
}

TEST_F(ViewTest, WhatIsNotOneRunIsRefusedWithTheLargestPartThatIs) {
  const auto plan = MakePlan();
  ExpectRefused(*plan, 0, Box{{20, 0}, {20, 120007}}, "is [20:30, 0:120007]; Read copies");
  ExpectRefused(*plan, 0, Box{{3, 10}, {5, 100}}, "is [3:4, 10:110]; Read copies");
  ExpectRefused(*plan, 1, Box{{0, 0}, {64, 1000}}, "is [0:64, 300:1000]; Read copies");
  EXPECT_EQ(plan->View(0, Box{{0, 0}, {41, 1}}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(plan->View(99, Box{}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ViewTest, WithoutAFileOnThisNodeThereIsNoView) {
  const Box region{{0, 0}, {1, 10}};
  ExpectRefused(*MakePlan({.stream = true}), 0, region, "unix socket");
  disk_copy_ = false;
  ExpectRefused(*MakePlan(), 0, region, "needs the file");
  pieces_.clear();
  ExpectRefused(*MakePlan(), 0, region, "hold none of it");
}

TEST_F(ViewTest, VerifyFindsDamageInTheBlocksOfTheRegionAlone) {
  const auto plan = MakePlan();
  const auto first = plan->View(0, Box{{0, 0}, {1, 1000}});
  const auto later = plan->View(0, Box{{20, 0}, {10, 120007}});
  Damage(disk_, 0, 2 * kBlock + 5);  // row 17
  EXPECT_TRUE(first->Verify().ok());
  const absl::Status status = later->Verify();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  for (const std::string& part : {std::string("run@5"), std::string("model.big"),
                                  disk_id_.hex(), std::to_string(2 * kBlock)}) {
    EXPECT_THAT(std::string(status.message()), HasSubstr(part));
  }
}

TEST_F(ViewTest, AFileThatIsTooShortIsDataLossAndNeverASignal) {
  const auto plan = MakePlan();
  const auto view = plan->View(0, Box{{0, 0}, {30, 120007}});
  ASSERT_EQ(ftruncate(disk_, 100000), 0);
  EXPECT_EQ(view->Verify().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(plan->View(0, Box{{0, 0}, {30, 120007}}).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(ViewTest, OutlivesPlanClientAndDaemon) {
  const Box region{{2, 0}, {20, 120007}};
  auto plan = MakePlan();
  const auto view = plan->View(0, region);
  ASSERT_TRUE(view.ok()) << view.status();
  plan.reset();
  client_.reset();
  daemon_.Stop();
  const TensorView copy = *view;
  EXPECT_TRUE(Bytes(copy) == Slice(tensors_[0], region));
  EXPECT_TRUE(copy.Verify().ok()) << copy.Verify();
}

TEST_F(ViewTest, AForkedChildReadsItToo) {
  const Box region{{2, 0}, {20, 120007}};
  const auto plan = MakePlan();
  const auto view = plan->View(0, region);
  ASSERT_TRUE(view.ok()) << view.status();
  const std::string expected = Slice(tensors_[0], region);
  const pid_t child = fork();
  if (child == 0) {
    const bool same = std::memcmp(view->bytes().data(), expected.data(), expected.size()) == 0;
    const bool verified = view->Verify().ok();
    const bool refused = plan->View(0, region).status().code() ==
                         absl::StatusCode::kFailedPrecondition;
    _exit((same ? 0 : 1) + (verified ? 0 : 2) + (refused ? 0 : 4));
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_TRUE(WIFEXITED(status));
}

}  // namespace
}  // namespace ckpt
