// What the selection flags select, checked with the filter that the daemon applies.
#include "client/cli/selection_flags.h"

#include <optional>
#include <string>
#include <vector>

#include "common/filter.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ckpt::cli {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

absl::StatusOr<v1::Selection> Select(std::vector<std::string> words) {
  CommandSpec command;
  command.flags = WithSelectionFlags({SliceFlag()});
  const absl::StatusOr<Arguments> arguments = ParseArguments(command, {}, words);
  if (!arguments.ok()) return arguments.status();
  return SelectionOf(*arguments);
}

struct Sample {
  const char* key;
  const char* top_level;
  v1::DType dtype;
  std::optional<uint64_t> bytes;
  std::optional<uint32_t> rank;
};
constexpr Sample kState[] = {
    {"model.a.weight", "model", v1::DTYPE_F32, 1 << 20, std::nullopt},
    {"model.a.bias", "model", v1::DTYPE_F32, 100, std::nullopt},
    {"model.b.weight", "model", v1::DTYPE_BF16, 2 << 20, std::nullopt},
    {"optimizer.a.m", "optimizer", v1::DTYPE_F32, 1 << 20, std::nullopt},
    {"rng", "rng", v1::DTYPE_U8, 50, 0},
    {"rng", "rng", v1::DTYPE_U8, 50, 1},
    {"step", "step", v1::DTYPE_UNSPECIFIED, std::nullopt, std::nullopt},
};

std::vector<std::string> Selected(std::vector<std::string> words) {
  const absl::StatusOr<v1::Selection> selection = Select(std::move(words));
  if (!selection.ok()) return {std::string(selection.status().message())};
  const absl::StatusOr<LeafFilter> filter = LeafFilter::FromSelection(*selection);
  if (!filter.ok()) return {std::string(filter.status().message())};
  std::vector<std::string> keys;
  for (const Sample& leaf : kState) {
    const LeafFacts facts{.printed_key = leaf.key,
                          .top_level = leaf.top_level,
                          .dtype = leaf.dtype,
                          .bytes = leaf.bytes,
                          .rank = leaf.rank};
    if (filter->Matches(facts)) keys.emplace_back(leaf.key);
  }
  return keys;
}

TEST(SelectionFlags, NamesAreAddedAndExcludesTakeAway) {
  EXPECT_EQ(Selected({}).size(), std::size(kState));
  EXPECT_THAT(Selected({"-i", "**.weight", "--key", "step", "--regex", "^opt"}),
              ElementsAre("model.a.weight", "model.b.weight", "optimizer.a.m", "step"));
  EXPECT_THAT(Selected({"-i", "model.**", "-x", "**.bias", "--exclude-regex", "\\.b\\."}),
              ElementsAre("model.a.weight"));
  EXPECT_THAT(Selected({"-x", "model.**", "-x", "rng"}), ElementsAre("optimizer.a.m", "step"));
  EXPECT_THAT(Selected({"--exclude-dtype", "f32,BF16"}), ElementsAre("rng", "rng", "step"));
  EXPECT_THAT(Selected({"--exclude-top-level", "model", "--exclude-top-level", "step"}),
              ElementsAre("optimizer.a.m", "rng", "rng"));
  EXPECT_THAT(Selected({"--key", "rng", "--key", "step", "--exclude-rank", "0"}),
              ElementsAre("rng", "step"));
  EXPECT_THAT(Selected({"-i", "model.**", "--min-size", "1MiB", "--exclude-dtype", "BF16"}),
              ElementsAre("model.a.weight"));
}

TEST(SelectionFlags, RestrictionsNarrowWhateverIsNamed) {
  EXPECT_THAT(Selected({"--dtype", "bf16,u8"}), ElementsAre("model.b.weight", "rng", "rng"));
  EXPECT_THAT(Selected({"--dtype=F32", "--min-size=1MiB"}),
              ElementsAre("model.a.weight", "optimizer.a.m"));
  EXPECT_THAT(Selected({"-i", "model.**", "--dtype", "F32", "--max-size", "100"}),
              ElementsAre("model.a.bias"));
  EXPECT_THAT(Selected({"--regex", "a", "--min-size", "1MiB", "--top-level", "optimizer"}),
              ElementsAre("optimizer.a.m"));
  EXPECT_THAT(Selected({"--top-level", "optimizer", "--top-level", "step"}),
              ElementsAre("optimizer.a.m", "step"));
  EXPECT_THAT(Selected({"-i", "model.**", "--key", "step", "--dtype", "BF16"}),
              ElementsAre("model.b.weight"));
  EXPECT_THAT(Selected({"--key", "rng", "--rank", "1"}), ElementsAre("rng"));
  EXPECT_THAT(Selected({"--rank", "1", "--max-size", "100"}),
              ElementsAre("model.a.bias", "rng")) << "what all ranks share is everybody's";
  EXPECT_THAT(Selected({"--rank=0,1", "--key=rng"}), ElementsAre("rng", "rng"));
  EXPECT_THAT(Selected({"--dtype", "F64"}), IsEmpty());
}

TEST(SelectionFlags, AKeyIsNoPatternWithARestrictionEither) {
  const v1::Selection selection = *Select({"--key", "a*b?\\c", "--min-size", "0"});
  ASSERT_EQ(selection.include_matching_size(), 1);
  EXPECT_EQ(LeafFilter::FromSelection(selection)->named_keys(),
            std::vector<std::string>{"a*b?\\c"});
  const LeafFilter filter = LeafFilter::FromSelection(selection).value();
  EXPECT_TRUE(filter.Matches({.printed_key = "a*b?\\c", .bytes = 1}));
  EXPECT_FALSE(filter.Matches({.printed_key = "axbx\\c", .bytes = 1}));
}

TEST(SelectionFlags, ASliceSelectsItsTensor) {
  EXPECT_THAT(Selected({"--slice", "model.a.weight[0:10,:]"}), ElementsAre("model.a.weight"));
  EXPECT_THAT(Selected({"--slice", "model.a.weight[0:10]", "-i", "step"}),
              ElementsAre("model.a.weight", "step"));
}

TEST(SelectionFlags, SayWhichFlagIsWrong) {
  EXPECT_THAT(Selected({"--dtype", "F99"})[0], AllOf(HasSubstr("--dtype"), HasSubstr("BF16"),
                                                     HasSubstr("F99")));
  EXPECT_THAT(Selected({"--min-size", "much"})[0], HasSubstr("--min-size"));
  EXPECT_THAT(Selected({"--rank", "-1"})[0], HasSubstr("--rank"));
  EXPECT_THAT(Selected({"--exclude-dtype", "F99", "--exclude-rank", "x"})[0],
              AllOf(HasSubstr("--exclude-dtype"), HasSubstr("--exclude-rank")));
  // An empty one is no "all": a script's variable may be unset.
  for (const char* flag : {"--dtype", "--exclude-dtype", "--rank", "--exclude-rank"}) {
    EXPECT_THAT(Selected({flag, ""})[0], HasSubstr(flag));
    EXPECT_THAT(Selected({flag, ","})[0], HasSubstr(flag));
  }
  EXPECT_THAT(Selected({"--top-level", "", "--dtype", "F32"})[0], HasSubstr("--top-level"));
  EXPECT_THAT(Selected({"--key", "", "--dtype", "F32"}), IsEmpty());
  EXPECT_THAT(Selected({"--slice", "w"})[0], HasSubstr("KEY[0:100,:]"));
  EXPECT_THAT(Selected({"--regex", "a(b"})[0], HasSubstr("missing )"));
  EXPECT_THAT(
      Selected({"--dtype", "F99", "--min-size", "much", "--slice", "w", "--regex", "a(b"})[0],
      AllOf(HasSubstr("F99"), HasSubstr("much"), HasSubstr("\"w\""), HasSubstr("a(b")))
      << "all at once";
}

}  // namespace
}  // namespace ckpt::cli
