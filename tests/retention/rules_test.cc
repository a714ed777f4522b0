// The rules, each alone and together: what is kept, what goes, and which rule is named for it.
#include "server/retention/rules.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/retention_policy.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/persist/persist_fixture.h"

namespace ckpt {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(1'700'000'000);

class Rules : public testing::Test {
 protected:
  // Steps in any order; of 10 bytes, committed one hour apart, the last one now.
  void Have(std::vector<uint64_t> steps) {
    std::sort(steps.rbegin(), steps.rend());
    for (size_t i = 0; i < steps.size(); ++i) {
      CheckpointFacts facts;
      facts.uid = CheckpointUid::TimeOrdered();
      facts.step = steps[i];
      facts.incarnation = IncarnationOf(1);
      facts.bytes = 10;
      facts.committed_at = kNow - absl::Hours(static_cast<int64_t>(i));
      run_.checkpoints.push_back(facts);
    }
    run_.now = kNow;
  }
  CheckpointFacts& At(uint64_t step) {
    for (CheckpointFacts& facts : run_.checkpoints) {
      if (facts.step == step) return facts;
    }
    ADD_FAILURE() << "no step " << step;
    return run_.checkpoints.front();
  }
  void Rule(const std::string& name, const std::string& value) {
    const absl::Status set = SetRetentionRule(name, value, policy_);
    EXPECT_TRUE(set.ok()) << set;
  }
  // "30 newest, 20 -unlisted, 10 pinned"
  std::string Judge() {
    std::vector<std::string> words;
    const auto verdicts = JudgeCheckpoints(run_, policy_);
    EXPECT_EQ(verdicts.size(), run_.checkpoints.size());
    for (size_t i = 0; i < verdicts.size(); ++i) {
      EXPECT_FALSE(verdicts[i].reason.empty());
      words.push_back(absl::StrCat(run_.checkpoints[i].step, verdicts[i].keep ? " " : " -",
                                   verdicts[i].rule));
    }
    return absl::StrJoin(words, ", ");
  }

  RunFacts run_;
  v1::RetentionPolicy policy_;
};

TEST_F(Rules, NothingToJudge) {
  Rule("keep-last", "1");
  EXPECT_EQ(Judge(), "");
}

TEST_F(Rules, WithoutARuleEverythingStays) {
  Have({1, 2, 3});
  EXPECT_EQ(Judge(), "3 newest, 2 no-rule, 1 no-rule");
}

TEST_F(Rules, KeepLast) {
  Have({1, 2, 3, 4});
  Rule("keep-last", "2");
  EXPECT_EQ(Judge(), "4 newest, 3 keep-last, 2 -unlisted, 1 -unlisted");
  Rule("keep-last", "9");
  EXPECT_EQ(Judge(), "4 newest, 3 keep-last, 2 keep-last, 1 keep-last");
}

TEST_F(Rules, KeepEvery) {
  Have({0, 50, 100, 150, 200, 250});
  Rule("keep-every", "100");
  EXPECT_EQ(Judge(),
            "250 newest, 200 keep-every, 150 -unlisted, 100 keep-every, 50 -unlisted, "
            "0 keep-every");
}

TEST_F(Rules, KeepBestIsByTheMetricAndOfEqualOnesTheNewest) {
  Have({1, 2, 3, 4, 5, 6});
  (*At(1).labels.mutable_metrics())["loss"] = 0.5;
  (*At(2).labels.mutable_metrics())["loss"] = 0.25;
  (*At(3).labels.mutable_metrics())["loss"] = 0.5;
  (*At(4).labels.mutable_metrics())["other"] = 0.0;
  (*At(5).labels.mutable_metrics())["loss"] = std::nan("");
  Rule("keep-best", "loss:min:2");
  EXPECT_EQ(Judge(), "6 newest, 5 -unlisted, 4 -unlisted, 3 keep-best, 2 keep-best, 1 -unlisted");
  Rule("keep-best", "loss:max:2");
  EXPECT_EQ(Judge(), "6 newest, 5 -unlisted, 4 -unlisted, 3 keep-best, 2 -unlisted, 1 keep-best");
  (*At(2).labels.mutable_metrics())["loss"] = std::numeric_limits<double>::infinity();
  EXPECT_EQ(Judge(), "6 newest, 5 -unlisted, 4 -unlisted, 3 keep-best, 2 keep-best, 1 -unlisted");
}

TEST_F(Rules, WhatAnyKeepingRuleNamesStays) {
  Have({10, 20, 25, 30, 35});
  (*At(25).labels.mutable_metrics())["acc"] = 0.9;
  Rule("keep-last", "2");
  Rule("keep-every", "20");
  Rule("keep-best", "acc:max:1");
  EXPECT_EQ(Judge(), "35 newest, 30 keep-last, 25 keep-best, 20 keep-every, 10 -unlisted");
}

TEST_F(Rules, MaxAge) {
  Have({1, 2, 3, 4});  // 4 is of now, 1 three hours old
  Rule("max-age", "2h");
  EXPECT_EQ(Judge(), "4 newest, 3 no-rule, 2 no-rule, 1 -max-age");
  Rule("max-age", "1s");
  EXPECT_EQ(Judge(), "4 newest, 3 -max-age, 2 -max-age, 1 -max-age");
}

TEST_F(Rules, MaxBytesTakesTheOldestFirst) {
  Have({1, 2, 3, 4});
  Rule("max-bytes", "25");
  EXPECT_EQ(Judge(), "4 newest, 3 no-rule, 2 -max-bytes, 1 -max-bytes");
  Rule("max-bytes", "40");
  EXPECT_EQ(Judge(), "4 newest, 3 no-rule, 2 no-rule, 1 no-rule");
  At(3).bytes = 100;
  EXPECT_EQ(Judge(), "4 newest, 3 -max-bytes, 2 -max-bytes, 1 -max-bytes");
}

TEST_F(Rules, BoundsTakeWhatKeepingRulesNamed) {
  Have({1, 2, 3, 4});
  Rule("keep-last", "3");
  Rule("max-age", "1h");
  EXPECT_EQ(Judge(), "4 newest, 3 keep-last, 2 -max-age, 1 -unlisted");
  Rule("max-bytes", "15");
  EXPECT_EQ(Judge(), "4 newest, 3 -max-bytes, 2 -max-age, 1 -unlisted");
}

TEST_F(Rules, PinnedAndTaggedOnesOutliveEveryBoundAndCountInMaxBytes) {
  Have({1, 2, 3, 4});
  At(1).labels.set_pinned(true);
  At(2).labels.add_tags("best");
  Rule("keep-last", "1");
  Rule("max-age", "1s");
  Rule("max-bytes", "1");
  EXPECT_EQ(Judge(), "4 newest, 3 -unlisted, 2 tagged, 1 pinned");
  policy_.Clear();
  Rule("max-bytes", "35");  // 30 are untouchable
  EXPECT_EQ(Judge(), "4 newest, 3 -max-bytes, 2 tagged, 1 pinned");
}

TEST_F(Rules, WhatPrecedesAStepThatIsNotDurableStays) {
  Have({10, 20, 30, 40});
  Rule("keep-last", "1");
  run_.activity.steps_in_flight = {25, 50};
  EXPECT_EQ(Judge(), "40 newest, 30 -unlisted, 20 in-flight, 10 -unlisted");
  run_.activity.steps_in_flight = {30};  // replaced: the old one is there until then
  EXPECT_EQ(Judge(), "40 newest, 30 in-flight, 20 -unlisted, 10 -unlisted");
  run_.activity.steps_in_flight = {5};
  EXPECT_EQ(Judge(), "40 newest, 30 -unlisted, 20 -unlisted, 10 -unlisted");
}

TEST_F(Rules, ALaunchThatBeganFurtherBackKeepsItsNewest) {
  Have({10, 15, 20, 30});
  At(15).incarnation = IncarnationOf(2);
  At(10).incarnation = IncarnationOf(2);
  Rule("keep-last", "1");
  EXPECT_EQ(Judge(), "30 newest, 20 -unlisted, 15 newest-of-launch, 10 -unlisted");
}

TEST_F(Rules, TheNewestIsOneOfAWholeWorld) {
  Have({1, 2, 3});
  At(3).whole = false;
  run_.activity.common_step = 3;
  Rule("keep-last", "1");
  EXPECT_EQ(Judge(), "3 newest, 2 newest, 1 -unlisted");
}

TEST_F(Rules, ADamagedOneFillsNobodysPlaceAmongTheNewest) {
  Have({300, 400, 500, 600});
  At(500).damaged = true;
  Rule("keep-last", "2");
  EXPECT_EQ(Judge(), "600 newest, 500 keep-last, 400 keep-last, 300 -unlisted");
  EXPECT_THAT(JudgeCheckpoints(run_, policy_)[1].reason, testing::HasSubstr("not counted"));
  At(300).damaged = true;  // behind those that count
  EXPECT_EQ(Judge(), "600 newest, 500 keep-last, 400 keep-last, 300 -unlisted");
  At(600).damaged = true;
  At(300).damaged = false;
  EXPECT_EQ(Judge(), "600 newest, 500 keep-last, 400 newest, 300 keep-last");
}

TEST_F(Rules, TheNewestThatIsNotKnownToBeDamagedOutlivesEveryBound) {
  Have({1, 2, 3, 4});
  At(4).damaged = At(3).damaged = true;
  Rule("keep-last", "1");
  Rule("max-age", "1s");
  Rule("max-bytes", "1");
  EXPECT_EQ(Judge(), "4 newest, 3 -max-age, 2 newest, 1 -unlisted");
  EXPECT_EQ(JudgeCheckpoints(run_, policy_)[2].reason,
            "the newest committed checkpoint that is not known to be damaged");
}

TEST_F(Rules, ADamagedOneIsNotTheOnlyNewestOfAWholeWorldOrOfALaunch) {
  Have({10, 15, 20, 30, 40});
  At(40).whole = false;
  At(30).damaged = true;
  run_.activity.common_step = 40;
  At(15).incarnation = At(10).incarnation = IncarnationOf(2);
  At(15).damaged = true;
  Rule("keep-last", "1");
  EXPECT_EQ(Judge(), "40 newest, 30 newest, 20 newest, 15 newest-of-launch, 10 newest-of-launch");
}

TEST_F(Rules, ADamagedOneIsNotTheOnlyPredecessorOfAStepInFlight) {
  Have({10, 20, 30, 40});
  At(20).damaged = true;
  Rule("keep-last", "1");
  run_.activity.steps_in_flight = {25};
  EXPECT_EQ(Judge(), "40 newest, 30 -unlisted, 20 in-flight, 10 in-flight");
}

TEST_F(Rules, ADamagedOneFillsNobodysPlaceAmongTheBest) {
  Have({1, 2, 3, 4});
  for (uint64_t step = 1; step <= 3; ++step) {
    (*At(step).labels.mutable_metrics())["loss"] = static_cast<double>(step);
  }
  At(1).damaged = true;
  Rule("keep-best", "loss:min:1");
  EXPECT_EQ(Judge(), "4 newest, 3 -unlisted, 2 keep-best, 1 keep-best");
}

TEST_F(Rules, MaxBytesTakesDamagedOnesFirst) {
  Have({1, 2, 3, 4});
  At(3).damaged = true;
  Rule("max-bytes", "30");
  EXPECT_EQ(Judge(), "4 newest, 3 -max-bytes, 2 no-rule, 1 no-rule");
  Rule("max-bytes", "20");
  EXPECT_EQ(Judge(), "4 newest, 3 -max-bytes, 2 no-rule, 1 -max-bytes");
}

TEST_F(Rules, SharesStayFromTheRanksCommonStepOn) {
  Have({1, 2, 3, 4});
  for (uint64_t step = 1; step <= 4; ++step) At(step).whole = false;
  Rule("keep-last", "1");
  Rule("max-age", "1s");
  EXPECT_EQ(Judge(), "4 newest, 3 common-step, 2 common-step, 1 common-step");
  run_.activity.common_step = 2;
  EXPECT_EQ(Judge(), "4 newest, 3 common-step, 2 common-step, 1 -unlisted");
}

}  // namespace
}  // namespace ckpt
