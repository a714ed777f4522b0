#include "client/cli/arguments.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ckpt::cli {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const CommandSpec& Spec() {
  static const auto* const spec = new CommandSpec{
      .name = "thing do",
      .summary = "Does it",
      .positionals = {{.name = "NAME", .help = "a name"},
                      {.name = "MORE", .help = "more", .count_min = 0, .count_max = 2}},
      .flags = {
          {.name = "include", .value = "GLOB", .help = "which", .letter = 'i', .repeated = true},
          {.name = "limit", .value = "N", .help = "how many"},
          {.name = "yes", .help = "don't ask", .letter = 'y'}}};
  return *spec;
}

const std::vector<FlagSpec>& Common() {
  static const auto* const flags = new std::vector<FlagSpec>{
      {.name = "output", .value = "FORMAT", .help = "format", .letter = 'o'},
      {.name = "help", .help = "this", .letter = 'h'}};
  return *flags;
}

absl::StatusOr<Arguments> Parse(std::vector<std::string> words) {
  return ParseArguments(Spec(), Common(), words);
}

std::string ErrorOf(std::vector<std::string> words) {
  const absl::StatusOr<Arguments> arguments = Parse(std::move(words));
  EXPECT_FALSE(arguments.ok());
  return arguments.ok() ? "" : std::string(arguments.status().message());
}

TEST(Arguments, EveryWayToWriteAFlagMeansTheSame) {
  for (const auto& words : std::vector<std::vector<std::string>>{{"n", "-o", "json"},
                                                                 {"-ojson", "n"},
                                                                 {"--output", "json", "n"},
                                                                 {"n", "--output=json"}}) {
    const absl::StatusOr<Arguments> arguments = Parse(words);
    ASSERT_TRUE(arguments.ok()) << arguments.status();
    EXPECT_EQ(arguments->Get("output"), "json");
    EXPECT_THAT(arguments->positionals(), ElementsAre("n"));
  }
}

TEST(Arguments, RepeatedFlagsAndFlagsBetweenPositionals) {
  const absl::StatusOr<Arguments> arguments = Parse({"a", "-i", "x.*", "b", "--include=y=z", "-y"});
  ASSERT_TRUE(arguments.ok()) << arguments.status();
  EXPECT_THAT(arguments->All("include"), ElementsAre("x.*", "y=z"));
  EXPECT_THAT(arguments->positionals(), ElementsAre("a", "b"));
  EXPECT_TRUE(arguments->Has("yes"));
  EXPECT_FALSE(arguments->Has("limit"));
  EXPECT_EQ(*arguments->Number("limit", 7), 7u);
}

TEST(Arguments, TwoDashesEndTheFlags) {
  const absl::StatusOr<Arguments> arguments = Parse({"-y", "--", "--output", "-x"});
  ASSERT_TRUE(arguments.ok()) << arguments.status();
  EXPECT_THAT(arguments->positionals(), ElementsAre("--output", "-x"));
}

TEST(Arguments, WhatIsWrongIsSaid) {
  EXPECT_THAT(ErrorOf({"n", "--limt", "3"}), HasSubstr("did you mean --limit?"));
  EXPECT_THAT(ErrorOf({"n", "--l", "3"}), HasSubstr("unknown flag --l"));
  EXPECT_THAT(ErrorOf({"n", "--o", "json"}), HasSubstr("unknown flag --o"));
  EXPECT_THAT(ErrorOf({"n", "--limit"}), HasSubstr("needs a value"));
  EXPECT_THAT(ErrorOf({"n", "--yes=no"}), HasSubstr("takes no value"));
  EXPECT_THAT(ErrorOf({"n", "--limit=1", "--limit=2"}), HasSubstr("given twice"));
  EXPECT_THAT(ErrorOf({}), HasSubstr("usage is ckptctl thing do NAME [MORE...]"));
  EXPECT_THAT(ErrorOf({"a", "b", "c", "d"}), HasSubstr("too many arguments"));
}

TEST(Arguments, WhatIsNoPathMustBeUtf8) {
  EXPECT_THAT(ErrorOf({"n\xff"}), AllOf(HasSubstr("NAME"), HasSubstr("'n\\xff'")));
  EXPECT_THAT(ErrorOf({"n", "m", "\xc3"}), HasSubstr("MORE is not valid UTF-8"));
  EXPECT_THAT(ErrorOf({"n", "-i\xff"}), HasSubstr("--include is not valid UTF-8"));
  EXPECT_THAT(ErrorOf({"n", "--limit=\xed\xa0\x80"}), HasSubstr("--limit"));
  CommandSpec spec = Spec();
  spec.positionals[1].is_path = true;
  spec.flags[1].is_path = true;
  const std::vector<std::string> words = {"n\xc3\xa9", "\xff", "\xfe", "--limit", "\xff"};
  const absl::StatusOr<Arguments> arguments = ParseArguments(spec, Common(), words);
  ASSERT_TRUE(arguments.ok()) << arguments.status();
  EXPECT_THAT(arguments->positionals(), ElementsAre("n\xc3\xa9", "\xff", "\xfe"));
  EXPECT_EQ(arguments->Get("limit"), "\xff");
}

TEST(Arguments, HelpWinsOverEveryError) {
  const absl::StatusOr<Arguments> arguments = Parse({"--nonsense", "--help"});
  ASSERT_TRUE(arguments.ok()) << arguments.status();
  EXPECT_TRUE(arguments->Has("help"));
}

TEST(Arguments, TimesAndNumbers) {
  const absl::StatusOr<Arguments> arguments = Parse({"n", "--limit", "1m30s"});
  ASSERT_TRUE(arguments.ok()) << arguments.status();
  EXPECT_EQ(*arguments->Duration("limit", absl::Seconds(1)), absl::Seconds(90));
  EXPECT_THAT(std::string(arguments->Number("limit", 1).status().message()),
              HasSubstr("whole number"));
  EXPECT_THAT(
      std::string(
          Parse({"n", "--limit", "0s"})->Duration("limit", absl::Seconds(1)).status().message()),
      HasSubstr("greater than 0"));
  for (const char* bad : {"", "5", "-3s", "0s", "inf", "soon"}) {
    EXPECT_FALSE(Parse({"n", "--limit", bad})->Duration("limit", absl::Seconds(1)).ok()) << bad;
  }
}

TEST(Arguments, HelpShowsEverything) {
  const std::string help = HelpText(Spec(), Common());
  for (const char* part : {"ckptctl thing do NAME [MORE...] [flags]", "Does it",
                           "-i, --include GLOB", "--limit N", "-y, --yes", "-o, --output FORMAT"}) {
    EXPECT_THAT(help, HasSubstr(part));
  }
}

}  // namespace
}  // namespace ckpt::cli
