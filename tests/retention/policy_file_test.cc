// The policy file, and rules as people write them.
#include "server/retention/policy_file.h"

#include <fstream>

#include "common/retention_policy.h"
#include "common/run_sections.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/persist/persist_fixture.h"

namespace ckpt {
namespace {

using ::testing::HasSubstr;

TEST(RetentionFile, SectionsInTheirOrder) {
  const auto sections = ParseRetentionFile(
      "# comment\n[team/*]\n  keep-last = 3\nkeep-every=1000\nkeep-best = eval/loss:min:2\n"
      "max-bytes = 2GiB\nmax-age = 30d\n\n[**]\r\n",
      "f");
  ASSERT_TRUE(sections.ok()) << sections.status();
  ASSERT_EQ(sections->size(), 2u);
  const RetentionSection& first = sections->front();
  EXPECT_EQ(first.pattern, "team/*");
  EXPECT_EQ(first.where, "f:2 [team/*]");
  EXPECT_EQ(PrintRetentionPolicy(first.policy),
            "keep-last 3, keep-every 1000, keep-best eval/loss:min:2, max-bytes 2147483648, "
            "max-age 30d");
  EXPECT_EQ(PrintRetentionPolicy(sections->back().policy), "keep everything");
}

TEST(RetentionFile, WhatIsWrongIsNamedWithItsLine) {
  for (const auto& [text, error] : std::vector<std::pair<std::string, std::string>>{
           {"keep-last = 3", "f:1: a rule before the first section"},
           {"[a]\nkeep-lats = 3", "f:2: no retention rule 'keep-lats'; there are keep-last"},
           {"[a]\nkeep-last = 0", "f:2: keep-last: expected a number from 1"},
           {"[a]\nkeep-last = 3\nkeep-last = 4", "f:3: keep-last is given twice"},
           {"[a]\nkeep-last", "f:2: expected [PATTERN] or `rule = value`"},
           {"[a]\n[b]\n[a]", "f:3: a second section [a]"},
           {"[a", "f:1: a section is [PATTERN]"},
           {"[]", "f:1: a pattern is"},
           {"[a b]", "f:1: a pattern is"},
           {"[a]\nkeep-best = loss", "f:2: keep-best: expected METRIC:min:N"},
           {"[a]\nkeep-best = loss:least:1", "f:2: keep-best: expected METRIC:min:N"},
           {"[a]\nkeep-best = loss:min:0", "f:2: keep-best: expected a number from 1"},
           {"[a]\nmax-age = 1", "f:2: max-age: expected an age such as 30d"},
           {"[a]\nmax-age = 40000d", "f:2: max-age: expected an age such as 30d"},
           {"[a]\nmax-bytes = 0", "f:2: max-bytes: expected a size above 0"},
           {"[a]\nmax-bytes = 5 apples", "f:2: max-bytes: "}}) {
    const auto sections = ParseRetentionFile(text, "f");
    EXPECT_EQ(sections.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(sections.status().message()), HasSubstr(error));
  }
}

TEST(RetentionFile, ReadsFilesAndNamesWhatCannotBeRead) {
  TemporaryFolder folder;
  const std::string path = folder.path() + "/f";
  EXPECT_THAT(std::string(ReadRetentionFile(path).status().message()), HasSubstr("cannot be read"));
  EXPECT_THAT(std::string(ReadRetentionFile(folder.path()).status().message()),
              HasSubstr("is a folder"));
  std::ofstream(path) << "";
  const auto empty = ReadRetentionFile(path);
  ASSERT_TRUE(empty.ok()) << empty.status();
  EXPECT_TRUE(empty->empty());
  std::ofstream(path) << "[**]\nkeep-last = 7\n";
  const auto sections = ReadRetentionFile(path);
  ASSERT_TRUE(sections.ok()) << sections.status();
  EXPECT_EQ(sections->front().policy.keep_last(), 7u);
}

TEST(RetentionFile, PatternsDivideRunsAtSlashes) {
  EXPECT_TRUE(RunMatches("team/*", "team/llama-7b.v2"));
  EXPECT_FALSE(RunMatches("team/*", "team/llama/sft"));
  EXPECT_TRUE(RunMatches("team/**", "team/llama/sft"));
  EXPECT_TRUE(RunMatches("**", "any/run.name"));
  EXPECT_FALSE(RunMatches("*", "any/run"));
  EXPECT_TRUE(RunMatches("run-?", "run-7"));
  EXPECT_FALSE(RunMatches("run", "run2"));
  EXPECT_EQ(LiteralPrefix("team/a*/b"), "team/a");
  EXPECT_EQ(LiteralPrefix("team/a"), "team/a");
  EXPECT_EQ(LiteralPrefix("**"), "");
}

}  // namespace
}  // namespace ckpt
