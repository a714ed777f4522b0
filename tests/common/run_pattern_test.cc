#include "common/run_pattern.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ckpt {
namespace {

bool Matches(absl::string_view pattern, absl::string_view run) {
  const absl::StatusOr<RunPattern> parsed = RunPattern::Parse(pattern);
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  return parsed.ok() && parsed->Matches(run);
}

TEST(RunPattern, DividesRunsAtSlashes) {
  EXPECT_TRUE(Matches("team/*", "team/llama-7b.v2"));
  EXPECT_FALSE(Matches("team/*", "team/llama/sft"));
  EXPECT_TRUE(Matches("team/**", "team/llama/sft"));
  EXPECT_TRUE(Matches("**", "any/run.name"));
  EXPECT_FALSE(Matches("*", "any/run"));
  EXPECT_TRUE(Matches("run-?", "run-7"));
  EXPECT_FALSE(Matches("run", "run2"));
}

TEST(RunPattern, APrefixEndsAtItsSlash) {
  EXPECT_FALSE(Matches("team-a/**", "team-ab/run"));
  EXPECT_FALSE(Matches("team-a/**", "x/team-a/run"));
  EXPECT_FALSE(Matches("team-a/**", "team-a"));
  EXPECT_FALSE(Matches("team.a/**", "team/a/run")) << "a dot is a dot";
}

TEST(RunPattern, KnowsWhatEveryMatchBeginsWith) {
  for (const auto& [pattern, prefix] : {std::pair<std::string, std::string>{"team/a*/b", "team/a"},
                                        {"team/a", "team/a"},
                                        {"**", ""}}) {
    EXPECT_EQ(RunPattern::Parse(pattern)->LiteralPrefix(), prefix);
  }
}

TEST(RunPattern, RefusesWhatNoRunCanMatch) {
  for (const std::string& text : {std::string(), std::string("a b"), std::string("a\\b"),
                                  std::string("[a]"), std::string(201, 'x')}) {
    EXPECT_EQ(RunPattern::Parse(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
}

}  // namespace
}  // namespace ckpt
