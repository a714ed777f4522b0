#include "client/state/plan_cache.h"

#include <functional>

#include "common/key.h"
#include "gtest/gtest.h"

namespace ckpt {
namespace {

float kCached[64];
float kOther[64];

Part SomePart(const void* data) {
  Part part;
  part.world_size = 2;
  part.leaves.push_back(TensorLeaf(MakeKey({"w"}), v1::DTYPE_F32, {8, 8}, data));
  part.leaves.push_back(
      ShardLeaf(MakeKey({"s"}), v1::DTYPE_F32, {8, 8}, Box{{0, 0}, {4, 8}}, data));
  v1::Value value;
  value.set_integer(reinterpret_cast<intptr_t>(data));
  part.leaves.push_back(ValueLeaf(MakeKey({"step"}), value));
  return part;
}

TEST(PlanCache, TheSameStructureWithOtherBytesAndValuesIsFound) {
  PlanCache cache;
  const auto first = cache.Get(SomePart(kCached));
  const auto second = cache.Get(SomePart(kOther));
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(*first, *second);
}

TEST(PlanCache, AnythingElseThatDiffersMakesAnotherPlan) {
  const std::vector<std::pair<const char*, std::function<void(Part&)>>> changes = {
      {"key", [](Part& part) { part.leaves[0].key = MakeKey({"v"}); }},
      {"key kind",
       [](Part& part) {
         v1::Key key;
         key.add_segments()->set_number(7);
         part.leaves[0].key = key;
       }},
      {"dtype", [](Part& part) { part.leaves[0].dtype = v1::DTYPE_I32; }},
      {"placement", [](Part& part) { part.leaves[0].placement = v1::PLACEMENT_PER_RANK; }},
      {"shape",
       [](Part& part) {
         part.leaves[0] = TensorLeaf(MakeKey({"w"}), v1::DTYPE_F32, {16, 4}, kCached);
       }},
      {"box",
       [](Part& part) {
         part.leaves[1].box = Box{{4, 0}, {4, 8}};
       }},
      {"replica", [](Part& part) { part.leaves[1].replica_count = 2; }},
      {"alias",
       [](Part& part) {
         part.leaves.push_back(part.leaves[0]);
         part.leaves.back().key = MakeKey({"tied"});
         part.leaves.back().alias_of_plus_one = 1;
       }},
      {"rank", [](Part& part) { part.rank = 1; }},
      {"world", [](Part& part) { part.world_size = 3; }},
      {"share", [](Part& part) { part.share = {0}; }},
      {"fewer leaves", [](Part& part) { part.leaves.pop_back(); }},
  };
  for (const auto& [name, change] : changes) {
    PlanCache cache;
    const auto before = cache.Get(SomePart(kCached));
    Part changed = SomePart(kCached);
    change(changed);
    const auto after = cache.Get(changed);
    ASSERT_TRUE(before.ok() && after.ok()) << name << after.status();
    EXPECT_NE(*before, *after) << name;
  }
}

TEST(PlanCache, ABadPartIsNotKept) {
  PlanCache cache;
  Part bad = SomePart(kCached);
  bad.rank = 9;
  EXPECT_EQ(cache.Get(bad).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(cache.Get(SomePart(kCached)).ok());
}

}  // namespace
}  // namespace ckpt
