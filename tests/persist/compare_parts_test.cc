// How much of a checkpoint the one before it held already.
#include "server/persist/compare_parts.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/observe/log.h"
#include "tests/persist/persist_fixture.h"

namespace ckpt {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class CompareParts : public testing::Test {
 protected:
  CompareParts() {
    auto store = Store::Open(folder_.path());
    EXPECT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }
  ~CompareParts() override { observe::ConfigureLog({}); }

  // One part of one tensor; block b is full of fill[b].
  CheckpointRecord SaveBlocks(uint64_t step, const std::string& fill, uint64_t last_bytes) {
    const uint64_t bytes = (fill.size() - 1) * kMiB + last_bytes;
    std::string data;
    for (const char c : fill) data += std::string(kMiB, c);
    const CheckpointId id = IdOf("r", step);
    const CheckpointUid uid = CheckpointUid::TimeOrdered();
    PartToPersist part = MakePart(id, uid, LayoutOfSizes({bytes}), 1);
    data.resize(part.layout->part_bytes());
    part.source = std::make_shared<StringSource>(data);
    auto durable = store_->Persist(part);
    EXPECT_TRUE(durable.ok()) << durable.status();
    auto record = store_->persister().Commit(id, uid, 1, {0}, {*durable});
    EXPECT_TRUE(record.ok()) << record.status();
    return *record;
  }
  CheckpointRecord Save(uint64_t step, const std::vector<uint64_t>& sizes, uint32_t ranks,
                        uint32_t seed) {
    auto record =
        store_->Save(IdOf("r", step), CheckpointUid::TimeOrdered(), sizes, ranks, seed);
    EXPECT_TRUE(record.ok()) << record.status();
    return *record;
  }
  std::optional<PartsComparison> Compare(const CheckpointRecord& record) {
    const auto comparison = ckpt::CompareParts(&store_->index(), record);
    EXPECT_TRUE(comparison.ok()) << comparison.status();
    return comparison.value_or(std::nullopt);
  }
  // What the index says of it.
  CheckpointRecord Known(const CheckpointRecord& record) {
    const auto uid = CheckpointUid::FromBytes(record.manifest.checkpoint_uid(), "uid");
    return store_->index().GetCheckpoint(*uid).value();
  }

  TemporaryFolder folder_;
  std::unique_ptr<Store> store_;
};

TEST_F(CompareParts, CountsTheBytesOfBlocksWithEqualHashes) {
  EXPECT_EQ(Compare(SaveBlocks(10, "abc", 100)), std::nullopt) << "there is none before";
  const auto same = Compare(SaveBlocks(20, "abc", 100));
  ASSERT_TRUE(same.has_value());
  EXPECT_EQ(same->step, 10u);
  EXPECT_EQ(same->identical_bytes, 2 * kMiB + 100);
  EXPECT_TRUE(same->all);
  const auto first_differs = Compare(SaveBlocks(30, "Xbc", 100));
  EXPECT_EQ(first_differs->step, 20u) << "the newest before it";
  EXPECT_EQ(first_differs->identical_bytes, kMiB + 100);
  EXPECT_FALSE(first_differs->all);
  EXPECT_EQ(Compare(SaveBlocks(40, "XbY", 100))->identical_bytes, 2 * kMiB);
  // A launch that resumed from 10 and saves a step that is not yet there.
  EXPECT_EQ(Compare(SaveBlocks(15, "abZ", 100))->step, 10u);
}

TEST_F(CompareParts, SumsOverRanks) {
  Save(1, {1000, 3 * kMiB}, 3, 1);
  const auto same = Compare(Save(2, {1000, 3 * kMiB}, 3, 1));
  EXPECT_EQ(same->identical_bytes, 3 * (1000 + 3 * kMiB));
  EXPECT_TRUE(same->all);
  // Part r's bytes follow from seed + r: now rank 0 holds what was rank 1's.
  const auto moved = Compare(Save(3, {1000, 3 * kMiB}, 3, 2));
  EXPECT_EQ(moved->identical_bytes, 0u);
  EXPECT_FALSE(moved->all);
}

TEST_F(CompareParts, SaysNothingOfWhatIsCutOtherwise) {
  Save(1, {1000}, 2, 1);
  EXPECT_EQ(Compare(Save(2, {1001}, 2, 1)), std::nullopt);
  EXPECT_EQ(Compare(Save(3, {1001}, 3, 1)), std::nullopt) << "one rank more";
  EXPECT_EQ(Compare(Save(0, {1001}, 3, 1)), std::nullopt) << "step 0 has none before";
}

TEST_F(CompareParts, ADeletedOneIsNotFound) {
  Save(1, {1000}, 1, 1);
  const CheckpointRecord record = Save(2, {1000}, 1, 1);
  const auto uid = CheckpointUid::FromBytes(record.manifest.checkpoint_uid(), "uid");
  ASSERT_TRUE(store_->persister().Delete(*uid).ok());
  EXPECT_TRUE(absl::IsNotFound(ckpt::CompareParts(&store_->index(), record).status()));
  store_->persister().Compare(record);  // and that is no failure
}

TEST_F(CompareParts, IsRecordedAndOutlivesARestartAndNewLabels) {
  Save(1, {1000}, 1, 1);
  const CheckpointRecord record = Save(2, {1000}, 1, 1);
  EXPECT_EQ(Known(record).compared_step, std::nullopt) << "the commit does not wait for it";
  store_->persister().Compare(record);
  EXPECT_EQ(Known(record).compared_step, 1u);
  EXPECT_EQ(Known(record).identical_bytes, 1000u);
  v1::Labels labels;
  labels.add_tags("best");
  const auto uid = CheckpointUid::FromBytes(record.manifest.checkpoint_uid(), "uid");
  ASSERT_TRUE(store_->index().PutLabels(*uid, labels).ok());
  store_.reset();
  store_ = *Store::Open(folder_.path());
  EXPECT_EQ(Known(record).compared_step, 1u);
  EXPECT_EQ(Known(record).identical_bytes, 1000u);
  EXPECT_EQ(Known(record).labels.tags(0), "best");
}

TEST_F(CompareParts, AJobThatGoesOnSavingTheSameIsWarnedAbout) {
  std::vector<std::string> lines;
  observe::ConfigureLog({.sink = [&](const std::string& line) { lines.push_back(line); }});
  for (const auto& [step, fill] : std::vector<std::pair<uint64_t, std::string>>{
           {10, "abc"}, {20, "abc"}, {30, "abc"}, {40, "abX"}, {50, "abX"}}) {
    store_->persister().Compare(SaveBlocks(step, fill, kMiB));
  }
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_THAT(lines[0], AllOf(HasSubstr(" I checkpoint compared with the one before it"),
                              HasSubstr("step=20 compared_step=10 identical_percent=100")));
  EXPECT_THAT(lines[1], AllOf(HasSubstr(" W checkpoint has the same tensors as the two before it"),
                              HasSubstr("step=30 compared_step=20")));
  EXPECT_THAT(lines[2], AllOf(HasSubstr(" I "), HasSubstr("identical_percent=66.6"),
                              HasSubstr("identical_bytes=2097152")));
  EXPECT_THAT(lines[3], HasSubstr(" I ")) << "once alone may be chance";
}

}  // namespace
}  // namespace ckpt
