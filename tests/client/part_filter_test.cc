// The declarative filter of a save, on byte tensors: what stays, who holds the bytes then.
#include "client/state/part_filter.h"

#include <string>
#include <vector>

#include "common/key.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ckpt {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

float kFloats[4096];

Part Sample() {
  Part part;
  part.rank = 1;
  part.world_size = 2;
  v1::Value number;
  number.set_integer(5);
  part.leaves = {TensorLeaf(MakeKey({"a", "w"}), v1::DTYPE_F32, {4, 4}, kFloats),
                 TensorLeaf(MakeKey({"a", "v"}), v1::DTYPE_F32, {4, 4}, nullptr),
                 ShardLeaf(MakeKey({"s"}), v1::DTYPE_F16, {100, 4}, {{50, 0}, {1, 4}}, kFloats),
                 TensorLeaf(MakeKey({"b", "w"}), v1::DTYPE_F32, {4, 4}, nullptr),
                 ValueLeaf(MakeKey({"n"}), number)};
  part.leaves[1].alias_of_plus_one = 1;
  part.leaves[3].alias_of_plus_one = 1;
  return part;
}

std::vector<std::string> KeysOf(const Part& part) {
  std::vector<std::string> keys;
  for (const PartLeaf& leaf : part.leaves) keys.push_back(PrintKey(leaf.key));
  return keys;
}

TEST(PartFilter, AnEmptySelectionTakesEverything) {
  Part part = Sample();
  ASSERT_TRUE(SelectLeaves({}, part).ok());
  EXPECT_EQ(KeysOf(part), KeysOf(Sample()));
  EXPECT_EQ(part.leaves[3].alias_of_plus_one, 1u);
}

TEST(PartFilter, TheFirstNameThatStaysHoldsTheBytes) {
  v1::Selection selection;
  selection.add_exclude("a.w");
  Part part = Sample();
  ASSERT_TRUE(SelectLeaves(selection, part).ok());
  EXPECT_THAT(KeysOf(part), ElementsAre("a.v", "s", "b.w", "n"));
  EXPECT_EQ(part.leaves[0].alias_of_plus_one, 0u);
  EXPECT_EQ(static_cast<const void*>(part.leaves[0].data), kFloats);
  EXPECT_EQ(part.leaves[2].alias_of_plus_one, 1u);
  const auto plan = MakePartPlan(part);
  ASSERT_TRUE(plan.ok()) << plan.status();

  selection.add_exclude("a.**");
  Part less = Sample();
  ASSERT_TRUE(SelectLeaves(selection, less).ok());
  EXPECT_THAT(KeysOf(less), ElementsAre("s", "b.w", "n"));
  EXPECT_EQ(less.leaves[1].alias_of_plus_one, 0u);
  EXPECT_EQ(static_cast<const void*>(less.leaves[1].data), kFloats);
}

TEST(PartFilter, SizesAreThoseOfTheWholeTensorAndRanksThoseOfPerRankLeaves) {
  v1::Selection selection;
  selection.add_include_matching()->set_min_bytes(800);  // this rank holds 8 bytes of it
  Part part = Sample();
  ASSERT_TRUE(SelectLeaves(selection, part).ok());
  EXPECT_THAT(KeysOf(part), ElementsAre("s"));
  v1::Selection ranks;
  ranks.add_include_matching()->add_ranks(0);
  Part shared = Sample();
  ASSERT_TRUE(SelectLeaves(ranks, shared).ok());
  EXPECT_THAT(KeysOf(shared), ElementsAre("a.w", "a.v", "s", "b.w"));
}

TEST(PartFilter, WhatMakesNoSenseIsInvalidAndChangesNothing) {
  v1::Selection unknown;
  *unknown.add_keys() = MakeKey({"a", "x"});
  *unknown.add_keys() = MakeKey({"a", "w"});
  *unknown.add_keys() = MakeKey({"elsewhere"});
  v1::Selection slices;
  *slices.add_slices()->mutable_key() = MakeKey({"a", "w"});
  v1::Selection pattern;
  pattern.add_include("");
  for (const v1::Selection* selection : {&unknown, &slices, &pattern}) {
    Part part = Sample();
    const absl::Status status = SelectLeaves(*selection, part);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_EQ(KeysOf(part), KeysOf(Sample()));
    if (selection != &unknown) continue;
    EXPECT_THAT(std::string(status.message()), HasSubstr("a.x (nearest: a."));
    EXPECT_THAT(std::string(status.message()), HasSubstr("elsewhere"));
    EXPECT_THAT(std::string(status.message()), ::testing::Not(HasSubstr("a.w,")));
  }
  Part chain = Sample();
  chain.leaves[3].alias_of_plus_one = 2;  // of an alias
  v1::Selection less;
  less.add_exclude("n");
  EXPECT_TRUE(absl::IsInvalidArgument(SelectLeaves(less, chain)));
}

}  // namespace
}  // namespace ckpt
