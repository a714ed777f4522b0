// What the table knows of runs does not grow with every name that somebody has saved to; what it is
// known for holds nevertheless.
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/staging/staging_rig.h"

namespace ckpt {
namespace {

class ForgottenRunsTest : public ::testing::Test {
 protected:
  PartClaim ClaimOf(const std::string& run, const Incarnation& launch, uint64_t step) {
    PartClaim claim = rig_.Claim(step, 0, 1, *layout_);
    claim.id = {run, step, launch};
    claim.resumed_step = 0;
    return claim;
  }
  // Begun, broken off, and told so by the index.
  void Abort(const PartClaim& claim) {
    ASSERT_TRUE(rig_.Open(claim, layout_).ok());
    rig_.clock().Advance(absl::Seconds(31));
    const absl::Time patience = absl::Now() + absl::Seconds(60);
    do {
      ASSERT_LT(absl::Now(), patience) << "never aborted";
      rig_.table().Tick();
      absl::SleepFor(absl::Milliseconds(1));
    } while (!rig_.index().FindAborted(claim.id).ok());
  }
  bool IsKnown(const std::string& run) {
    return rig_.table().ActivityOf(run).resumed_step.has_value();
  }
  // Ticks until the table has let go of `run`. False: it never does.
  bool Forgets(const std::string& run) {
    const absl::Time patience = absl::Now() + absl::Seconds(60);
    while (IsKnown(run) && absl::Now() < patience) {
      rig_.table().Tick();
      absl::SleepFor(absl::Milliseconds(1));
    }
    return !IsKnown(run);
  }

  bool IndexForgets(const std::string& run) {
    const absl::Time patience = absl::Now() + absl::Seconds(60);
    const auto knows = [&] {
      const auto newest = rig_.index().NewestIncarnation(run);
      return !newest.ok() || newest->has_value();
    };
    while (knows() && absl::Now() < patience) {
      rig_.table().Tick();
      absl::SleepFor(absl::Milliseconds(1));
    }
    return !knows();
  }

  StagingRig rig_{{.runs_kept_min = 2}};
  std::shared_ptr<const PartLayout> layout_ = PlainLayout(1000);
  const Incarnation older_ = Incarnation::TimeOrdered();
  const Incarnation newer_ = Incarnation::TimeOrdered();
};

TEST_F(ForgottenRunsTest, NamesThatNothingWasCommittedUnderAreForgotten) {
  ASSERT_TRUE(rig_.Save(ClaimOf("kept", newer_, 7), layout_, 1).ok());
  ASSERT_TRUE(rig_.WaitFor({"kept", 7, newer_}, v1::CHECKPOINT_STATE_COMMITTED).ok());
  for (int i = 0; i < 4; ++i) Abort(ClaimOf(absl::StrCat("fresh/", i), newer_, 1));
  rig_.table().Tick();
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(IsKnown(absl::StrCat("fresh/", i))) << "still here";
  rig_.clock().Advance(absl::Hours(25));
  // It looks again when it knows of twice as many.
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(rig_.Open(ClaimOf(absl::StrCat("more/", i), newer_, 1), layout_).ok());
  }
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(Forgets(absl::StrCat("fresh/", i))) << i;
  EXPECT_TRUE(IndexForgets("fresh/0"));
  EXPECT_TRUE(IsKnown("kept")) << "retention asks for it";
  // A launch that has been taken over from is refused nevertheless, where there is something to
  // protect from it.
  const absl::Status refused = rig_.Open(ClaimOf("kept", older_, 9), layout_).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  EXPECT_TRUE(rig_.Save(ClaimOf("fresh/0", older_, 9), layout_, 1).ok());
  EXPECT_TRUE(rig_.Save(ClaimOf("fresh/1", newer_, 9), layout_, 1).ok());
}

}  // namespace
}  // namespace ckpt
