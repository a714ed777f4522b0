// How much of a checkpoint a load asks the daemon for.
#include "client/torch/load_selection.h"

#include "absl/strings/str_cat.h"
#include "common/key.h"
#include "common/limits.h"
#include "tests/torch/torch_test.h"

namespace ckpt::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

LoadOptions Dropping() {
  LoadOptions options;
  options.remainder = LoadOptions::Remainder::kDrop;
  return options;
}

StateDict Layers(int count) {
  const at::Tensor tensor = torch::zeros(1);
  StateDict layers;
  for (int i = 0; i < count; ++i) layers[absl::StrCat("layer_", i, ".attention.weight")] = tensor;
  return layers;
}

std::vector<std::string> TopLevelsOf(const v1::Selection& selection) {
  std::vector<std::string> names;
  for (const v1::LeafMatch& match : selection.include_matching()) {
    names.push_back(match.top_level());
  }
  return names;
}

TEST(LoadSelection, TensorsAreNamedOneByOne) {
  const auto narrow = SelectionOfLoad(StateDict{{"net", Layers(1000)}}, {}, Dropping());
  ASSERT_TRUE(narrow.has_value());
  EXPECT_EQ(narrow->selection.keys_size(), 1000);
  EXPECT_THAT(narrow->partial, UnorderedElementsAre("", "net"));
}

TEST(LoadSelection, MoreKeysThanAMessageHoldsAreAskedForByTopLevel) {
  const StateDict state{{"net", Layers(100'000)}, {"step", 3}, {"t", torch::zeros(1)}};
  const auto narrow = SelectionOfLoad(state, {}, Dropping());
  ASSERT_TRUE(narrow.has_value());
  EXPECT_LT(narrow->selection.ByteSizeLong(), kMessageBytesMax);
  EXPECT_EQ(narrow->selection.keys_size(), 0);
  EXPECT_THAT(TopLevelsOf(narrow->selection), ElementsAre("net", "step", "t"));
  EXPECT_THAT(narrow->partial, ElementsAre(""));  // of "net" all is there
  // Under a path: all below it.
  const auto below = SelectionOfLoad(Layers(100'000), {"nets", "a"}, Dropping());
  ASSERT_TRUE(below.has_value());
  EXPECT_THAT(below->selection.include(), ElementsAre("nets.a", "nets.a.**"));
  EXPECT_EQ(below->selection.keys_size(), 0);
  EXPECT_THAT(below->partial, IsEmpty());
  // At the top level itself, or renamed there: everything.
  EXPECT_FALSE(SelectionOfLoad(Layers(100'000), {}, Dropping()).has_value());
  LoadOptions renamed = Dropping();
  renamed.renames = {Rename::Prefix("n", "m").In("")};
  EXPECT_FALSE(SelectionOfLoad(state, {}, renamed).has_value());
}

TEST(LoadSelection, WhatTheCallerExcludesCountsToo) {
  LoadOptions options = Dropping();
  for (int i = 0; i < 700; ++i) {
    options.restore.selection.add_exclude(std::string(kKeyBytesMax - 100, 'x'));
  }
  EXPECT_FALSE(SelectionOfLoad(StateDict{{"t", torch::zeros(1)}}, {}, options).has_value());
}

}  // namespace
}  // namespace ckpt::testing
