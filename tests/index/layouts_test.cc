#include <filesystem>
#include <fstream>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "tests/index/index_fixture.h"

namespace ckpt {
namespace {

using testing::ElementsAre;

class Layouts : public IndexTest {
 protected:
  // Of the leaves that begin with `prefix`, the first ones from `from` on.
  std::vector<std::string> Keys(const PartLayout& layout, const std::string& prefix,
                                const std::string& from, size_t count = 1000) {
    std::vector<std::string> keys;
    const auto cursor = index_->OpenLeaves(layout.digest());
    EXPECT_TRUE(cursor.ok()) << cursor.status();
    absl::Status status = (*cursor)->Seek(std::max(prefix, from));
    for (; status.ok() && (*cursor)->valid() && keys.size() < count; status = (*cursor)->Next()) {
      if (!absl::StartsWith((*cursor)->printed_key(), prefix)) break;
      EXPECT_EQ(layout.leaves().printed_key((*cursor)->position()), (*cursor)->printed_key());
      std::vector<LeafShard> shards;
      EXPECT_TRUE((*cursor)->ReadShards(shards).ok());
      EXPECT_EQ(shards.size(), 1u);
      EXPECT_EQ(shards[0].length, (*cursor)->Facts(0).bytes);
      keys.emplace_back((*cursor)->printed_key());
    }
    EXPECT_TRUE(status.ok()) << status;
    return keys;
  }
};

TEST_F(Layouts, AreKnownBeforeTheirFirstCheckpointAndParsedOnce) {
  const std::shared_ptr<const PartLayout> layout = LayoutOfSizes({100, 200});
  EXPECT_EQ(index_->FindLayout(layout->digest()), nullptr);
  index_->KeepLayout(layout);
  index_->KeepLayout(LayoutOfSizes({100, 200}));  // the same one again
  EXPECT_EQ(index_->FindLayout(layout->digest()), layout);
  Put(IdOf("r", 1), {100, 200});
  Reopen();
  const auto found = index_->FindLayout(layout->digest());
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->serialized(), layout->serialized());
  EXPECT_EQ(index_->FindLayout(layout->digest()), found);  // shared, not parsed again
}

// A job that keeps only its last checkpoint, or none, need not send its layout with every save.
TEST_F(Layouts, StayKnownWhileTheDaemonRunsThoughTheirCheckpointIsDeleted) {
  const std::shared_ptr<const PartLayout> layout = LayoutOfSizes({100});
  index_->KeepLayout(layout);
  for (uint64_t step = 1; step <= 2; ++step) {
    const CheckpointUid uid = Put(IdOf("r", step), {100});
    EXPECT_EQ(Keys(*layout, "", "").size(), 1u);
    ASSERT_TRUE(index_->Tombstone(uid).ok());
    ASSERT_TRUE(index_->FinishTombstone(uid).ok());
    EXPECT_EQ(index_->FindLayout(layout->digest()), layout);
  }
}

TEST_F(Layouts, UnusedOnesAreForgottenAndPutTogetherAgain) {
  std::vector<uint64_t> sizes;
  for (uint64_t i = 0; i < 300; ++i) sizes.push_back(1 + i * i % 91);
  const auto layout = LayoutOfSizes(sizes);
  index_->KeepLayout(layout);
  Put(IdOf("r", 1), sizes);
  index_->ForgetLayoutsUnusedSince(absl::Now() - absl::Hours(1));
  EXPECT_EQ(index_->FindLayout(layout->digest()), layout);
  index_->ForgetLayoutsUnusedSince(absl::Now() + absl::Seconds(1));
  const auto found = index_->FindLayout(layout->digest());
  ASSERT_NE(found, nullptr);
  EXPECT_NE(found, layout);
  EXPECT_EQ(found->serialized(), layout->serialized());
}

TEST_F(Layouts, PreparedOnesAreSeenWithTheirCheckpointAlone) {
  const auto layout = LayoutOfSizes({100, 200});
  const auto unused = LayoutOfSizes({1});
  ASSERT_TRUE(index_->PrepareLayout(*layout).ok());
  ASSERT_TRUE(index_->PrepareLayout(*layout).ok());
  ASSERT_TRUE(index_->PrepareLayout(*unused).ok());
  EXPECT_TRUE(absl::IsNotFound(index_->OpenLeaves(layout->digest()).status()));
  Put(IdOf("r", 1), {100, 200});
  EXPECT_EQ(Keys(*layout, "", "").size(), 2u);
  ASSERT_TRUE(index_->PrepareLayout(*layout).ok());
  index_->ForgetLayoutsUnusedSince(absl::Now() + absl::Seconds(1));
  EXPECT_EQ(Keys(*layout, "", "").size(), 2u) << "a checkpoint references it";
  // The other one's rows went: they are written again for a checkpoint that does come.
  Put(IdOf("r", 2), {1});
  EXPECT_EQ(Keys(*unused, "", "").size(), 1u);
  // And once more after its last checkpoint took them along.
  ASSERT_TRUE(index_->PrepareLayout(*unused).ok());
  const CheckpointUid third = Put(IdOf("r", 3), {7});
  ASSERT_TRUE(index_->PrepareLayout(*LayoutOfSizes({7})).ok());
  ASSERT_TRUE(index_->Tombstone(third).ok());
  ASSERT_TRUE(index_->FinishTombstone(third).ok());
  Put(IdOf("r", 4), {7});
  EXPECT_EQ(Keys(*LayoutOfSizes({7}), "", "").size(), 1u);
  Reopen();
  EXPECT_EQ(Keys(*layout, "", "").size(), 2u);
}

// Their rows come as a table, not through the log.
TEST_F(Layouts, LargeOnesAreWrittenFoundForgottenAndWrittenAgain) {
  constexpr size_t kLeaves = 70'000;
  const std::vector<uint64_t> sizes(kLeaves, 8);
  const auto layout = LayoutOfSizes(sizes);
  ASSERT_GT(layout->serialized().size(), size_t{2} << 20);
  const auto count = [&] { return Keys(*layout, "", "", kLeaves + 1).size(); };
  ASSERT_TRUE(index_->PrepareLayout(*layout).ok());
  ASSERT_TRUE(index_->PrepareLayout(*layout).ok());
  EXPECT_TRUE(absl::IsNotFound(index_->OpenLeaves(layout->digest()).status()));
  index_->ForgetLayoutsUnusedSince(absl::Now() + absl::Seconds(1));
  ASSERT_TRUE(index_->PrepareLayout(*layout).ok());
  const CheckpointUid first = Put(IdOf("r", 1), sizes);
  EXPECT_EQ(count(), kLeaves);
  ASSERT_TRUE(index_->Tombstone(first).ok());
  ASSERT_TRUE(index_->FinishTombstone(first).ok());
  EXPECT_TRUE(absl::IsNotFound(index_->OpenLeaves(layout->digest()).status()));
  Put(IdOf("r", 2), sizes);  // without having been prepared
  EXPECT_EQ(count(), kLeaves);
  EXPECT_TRUE(index_->VerifyFiles().ok());
  Reopen();
  EXPECT_EQ(count(), kLeaves);
  EXPECT_EQ(index_->FindLayout(layout->digest())->serialized(), layout->serialized());
  for (const auto& file : std::filesystem::directory_iterator(path_)) {
    EXPECT_FALSE(absl::EndsWith(file.path().string(), ".table")) << file.path();
  }
}

TEST_F(Layouts, ATableThatACrashLeftIsGoneAtTheNextStart) {
  const std::string left = path_ + "/1.table";
  std::ofstream(left) << "half of one";
  Reopen();
  EXPECT_FALSE(std::filesystem::exists(left));
}

TEST_F(Layouts, OneThatNothingReferencesIsGoneAtTheNextStart) {
  const auto unused = LayoutOfSizes({1});
  const auto used = LayoutOfSizes({100});
  index_->KeepLayout(unused);
  Put(IdOf("r", 1), {100});
  Reopen();
  EXPECT_EQ(index_->FindLayout(unused->digest()), nullptr);
  EXPECT_NE(index_->FindLayout(used->digest()), nullptr);
}

TEST_F(Layouts, LiveAsLongAsTheirLastCheckpoint) {
  const auto layout = LayoutOfSizes({100});
  const CheckpointUid first = Put(IdOf("r", 1), {100}, 2);
  const CheckpointUid second = Put(IdOf("r", 2), {100}, 2);
  ASSERT_TRUE(index_->Tombstone(first).ok());
  ASSERT_TRUE(index_->FinishTombstone(first).ok());
  Reopen();
  EXPECT_NE(index_->FindLayout(layout->digest()), nullptr);
  EXPECT_EQ(Keys(*layout, "", "").size(), 1u);
  ASSERT_TRUE(index_->Tombstone(second).ok());
  ASSERT_TRUE(index_->FinishTombstone(second).ok());
  Reopen();
  EXPECT_EQ(index_->FindLayout(layout->digest()), nullptr);
  EXPECT_TRUE(absl::IsNotFound(index_->OpenLeaves(layout->digest()).status()));
}

TEST_F(Layouts, LeavesAreFoundByKey) {
  const auto layout = LayoutOfSizes(std::vector<uint64_t>(23, 10));
  Put(IdOf("r", 1), {77});
  Put(IdOf("r", 2), std::vector<uint64_t>(23, 10));
  EXPECT_EQ(Keys(*layout, "", "").size(), 23u);
  EXPECT_THAT(Keys(*layout, "t2", ""), ElementsAre("t2", "t20", "t21", "t22"));
  EXPECT_THAT(Keys(*layout, "t2", "t21"), ElementsAre("t21", "t22"));
  EXPECT_THAT(Keys(*layout, "t2", "", 2), ElementsAre("t2", "t20"));
  EXPECT_THAT(Keys(*layout, "", "t8x"), ElementsAre("t9"));
  EXPECT_THAT(Keys(*layout, "x", ""), testing::IsEmpty());
  EXPECT_THAT(Keys(*layout, "t1", "t2"), testing::IsEmpty());
}

TEST_F(Layouts, APartWhoseLayoutIsNotItsDigestsIsRefused) {
  Made made = Make(IdOf("r", 1), {100});
  *made.parts[0].mutable_layout() = LayoutOfSizes({200})->ToProto();
  EXPECT_TRUE(absl::IsDataLoss(index_->PutCheckpoint(made.manifest, made.parts, v1::Labels())));
  EXPECT_EQ(index_->CheckpointCount(), 0u);
}

}  // namespace
}  // namespace ckpt
