#include "server/persist/known_damage.h"

#include "tests/fakes/faulty_index.h"
#include "tests/index/index_fixture.h"

namespace ckpt {
namespace {

class KnownDamageTest : public IndexTest {
 protected:
  static VerificationProgress Damaged() {
    VerificationProgress read;
    read.damage = {"a file", "another"};
    read.labels_only = false;
    return read;
  }
};

TEST_F(KnownDamageTest, WhatTheIndexCannotTakeIsTriedAgainWithTheNextRead) {
  const CheckpointUid uid = Put(IdOf("r", 1));
  FaultyIndex index(std::move(index_));
  KnownDamage known(&index);
  known.Found(uid, Damaged());
  index.SetFull(true);
  known.Found(uid, {});
  EXPECT_TRUE(known.IsDamaged(uid)) << "as the next process would have it";
  index.SetFull(false);
  known.Found(uid, {});
  EXPECT_FALSE(known.IsDamaged(uid));
  KnownDamage next(&index);
  ASSERT_TRUE(next.Load().ok());
  EXPECT_EQ(next.count(), 0u);
}

TEST_F(KnownDamageTest, NothingIsRememberedOfWhatIsGone) {
  const CheckpointUid uid = Put(IdOf("r", 1));
  KnownDamage known(index_.get());
  ASSERT_TRUE(index_->Tombstone(uid).ok());
  known.Found(uid, Damaged());
  EXPECT_EQ(known.count(), 0u);
}

}  // namespace
}  // namespace ckpt
