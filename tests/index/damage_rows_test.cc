#include <map>

#include "tests/index/index_fixture.h"

namespace ckpt {
namespace {

class DamageRows : public IndexTest {
 protected:
  std::map<CheckpointUid, DamageRecord> All() {
    std::map<CheckpointUid, DamageRecord> all;
    const absl::Status read = index_->ForEachDamage(
        [&](CheckpointUid uid, const DamageRecord& damage) { all[uid] = damage; });
    EXPECT_TRUE(read.ok()) << read;
    return all;
  }
};

TEST_F(DamageRows, StayUntilTheyAreReplaced) {
  EXPECT_TRUE(All().empty());
  const CheckpointUid a = Put(IdOf("r", 1));
  const CheckpointUid b = Put(IdOf("r", 2));
  ASSERT_TRUE(index_->PutDamage(a, DamageRecord{3, "a file, key w, offset 17", false}).ok());
  ASSERT_TRUE(index_->PutDamage(b, DamageRecord{1, "labels", true}).ok());
  Reopen();
  ASSERT_EQ(All().size(), 2u);
  EXPECT_EQ(All()[a].places, 3u);
  EXPECT_EQ(All()[a].first, "a file, key w, offset 17");
  EXPECT_FALSE(All()[a].labels_only);
  EXPECT_TRUE(All()[b].labels_only);
  ASSERT_TRUE(index_->PutDamage(a, DamageRecord{1, "another", false}).ok());
  ASSERT_TRUE(index_->PutDamage(b, std::nullopt).ok());
  Reopen();
  ASSERT_EQ(All().size(), 1u);
  EXPECT_EQ(All()[a].first, "another");
}

TEST_F(DamageRows, GoWithTheirCheckpoint) {
  const CheckpointUid a = Put(IdOf("r", 1));
  ASSERT_TRUE(index_->PutDamage(a, DamageRecord{1, "a file", false}).ok());
  ASSERT_TRUE(index_->Tombstone(a).ok());
  EXPECT_TRUE(All().empty());
  EXPECT_TRUE(absl::IsNotFound(index_->PutDamage(a, DamageRecord{1, "a file", false})));
  EXPECT_TRUE(absl::IsNotFound(index_->PutDamage(CheckpointUid::TimeOrdered(), std::nullopt)));
  EXPECT_TRUE(All().empty());
}

}  // namespace
}  // namespace ckpt
