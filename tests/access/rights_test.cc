#include "server/access/rights.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ckpt {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

Rights Tenant() {
  Rights rights("token team-a");
  rights.Add(*RunPattern::Parse("team-a/**"), Verb::kWrite);
  rights.Add(*RunPattern::Parse("shared/*"), Verb::kRead);
  return rights;
}

TEST(Rights, EachVerbIncludesThoseBeforeIt) {
  const Rights tenant = Tenant();
  EXPECT_TRUE(tenant.May(Verb::kRead, "team-a/llama/sft"));
  EXPECT_TRUE(tenant.May(Verb::kWrite, "team-a/llama/sft"));
  EXPECT_FALSE(tenant.May(Verb::kAdmin, "team-a/llama/sft"));
  EXPECT_TRUE(tenant.May(Verb::kRead, "shared/base"));
  EXPECT_FALSE(tenant.May(Verb::kWrite, "shared/base"));
}

TEST(Rights, NothingThatNoRuleNames) {
  const Rights tenant = Tenant();
  for (const char* run : {"team-b/x", "team-a", "team-ab/x", "shared/a/b", "x/team-a/y"}) {
    EXPECT_FALSE(tenant.May(Verb::kRead, run)) << run;
  }
  EXPECT_FALSE(Rights("nobody").MaySomewhere(Verb::kRead));
}

TEST(Rights, EverywhereTakesARuleForAllRuns) {
  Rights wide("token wide");
  wide.Add(*RunPattern::Parse("*/**"), Verb::kAdmin);
  EXPECT_TRUE(wide.MaySomewhere(Verb::kAdmin));
  EXPECT_FALSE(wide.MayEverywhere(Verb::kRead));
  wide.Add(*RunPattern::Parse("**"), Verb::kRead);
  EXPECT_TRUE(wide.MayEverywhere(Verb::kRead));
  EXPECT_FALSE(wide.MayEverywhere(Verb::kWrite));
  EXPECT_TRUE(Rights::OfTheDaemon()->MayEverywhere(Verb::kAdmin));
}

TEST(Rights, ADenialSaysWhatIsMissingWhereAndToWhom) {
  const absl::Status denied = Tenant().Require(Verb::kWrite, "shared/base");
  EXPECT_EQ(denied.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(std::string(denied.message()),
              AllOf(HasSubstr("write"), HasSubstr("'shared/base'"), HasSubstr("token team-a"),
                    HasSubstr("--token-file")));
  EXPECT_TRUE(Tenant().Require(Verb::kWrite, "team-a/x").ok());
  EXPECT_THAT(std::string(Tenant().RequireEverywhere(Verb::kAdmin).message()),
              AllOf(HasSubstr("admin"), HasSubstr("all runs")));
  EXPECT_TRUE(Tenant().RequireSomewhere(Verb::kWrite).ok());
  EXPECT_FALSE(Tenant().RequireSomewhere(Verb::kAdmin).ok());
}

TEST(Rights, VerbsAreACommaList) {
  EXPECT_EQ(ParseVerbs("read"), Verb::kRead);
  EXPECT_EQ(ParseVerbs("write,read"), Verb::kWrite);
  EXPECT_EQ(ParseVerbs("admin"), Verb::kAdmin);
  for (const char* text : {"", "none", "read,", "read write", "READ", "delete"}) {
    EXPECT_EQ(ParseVerbs(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace ckpt
