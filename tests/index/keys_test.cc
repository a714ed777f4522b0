#include "server/index/keys.h"

#include <algorithm>

#include "common/limits.h"
#include "gtest/gtest.h"
#include "tests/persist/persist_fixture.h"

namespace ckpt {
namespace {

TEST(IndexKeys, SortByRunThenStepThenIncarnation) {
  const CheckpointUid uid = CheckpointUid::TimeOrdered();
  const std::vector<std::string> ascending = {index_keys::Checkpoint(IdOf("a", 0, 1), uid),
                                              index_keys::Checkpoint(IdOf("a", 255, 9), uid),
                                              index_keys::Checkpoint(IdOf("a", 256, 1), uid),
                                              index_keys::Checkpoint(IdOf("a", 256, 200), uid),
                                              index_keys::Checkpoint(IdOf("a", kStepMax, 1), uid),
                                              index_keys::Checkpoint(IdOf("a-b", 0, 1), uid),
                                              index_keys::Checkpoint(IdOf("a/b", 0, 1), uid),
                                              index_keys::Checkpoint(IdOf("ab", 0, 1), uid)};
  EXPECT_TRUE(std::is_sorted(ascending.begin(), ascending.end()));
}

TEST(IndexKeys, AreReadBack) {
  const CheckpointUid uid = CheckpointUid::TimeOrdered();
  auto key = index_keys::ParseCheckpoint(index_keys::Checkpoint(IdOf("team/run", 77, 3), uid));
  ASSERT_TRUE(key.has_value());
  EXPECT_EQ(key->run, "team/run");
  EXPECT_EQ(key->step, 77u);
  EXPECT_EQ(key->incarnation, IncarnationOf(3));
  EXPECT_EQ(key->uid, uid);
  EXPECT_FALSE(index_keys::ParseCheckpoint("team/run").has_value());
  EXPECT_FALSE(index_keys::ParseCheckpoint(std::string("r\0short", 7)).has_value());
}

TEST(IndexKeys, AfterIsTheFirstKeyBeyondAPrefix) {
  EXPECT_EQ(index_keys::After("ab"), "ac");
  EXPECT_EQ(index_keys::After("a\xff\xff"), "b");
  EXPECT_EQ(index_keys::After("\xff"), "");
  EXPECT_EQ(index_keys::After(""), "");
}

}  // namespace
}  // namespace ckpt
