#include "client/cli/checkpoint_record.h"

#include "client/cli/leaf_record.h"
#include "common/utf8.h"
#include "gtest/gtest.h"

namespace ckpt::cli {
namespace {

TEST(CheckpointRecord, PercentIsRoundedDownSoThatAHundredMeansAll) {
  EXPECT_EQ(PercentText(0, 0), "100.0 %");
  EXPECT_EQ(PercentText(0, 10), "0.0 %");
  EXPECT_EQ(PercentText(1, 3), "33.3 %");
  EXPECT_EQ(PercentText(2, 3), "66.6 %");
  EXPECT_EQ(PercentText(999'999, 1'000'000), "99.9 %");
  EXPECT_EQ(PercentText((uint64_t{1} << 60) - 1, uint64_t{1} << 60), "99.9 %");
  EXPECT_EQ(PercentText(uint64_t{1} << 60, uint64_t{1} << 60), "100.0 %");
}

TEST(CheckpointRecord, ProgramsGetNullForWhatIsNotKnown) {
  v1::CheckpointInfo info;
  info.set_data_bytes(100);
  EXPECT_TRUE(CheckpointJson(info)["compared_step"].is_null());
  EXPECT_TRUE(CheckpointJson(info)["identical_bytes"].is_null());
  EXPECT_TRUE(CheckpointJson(info)["durable_at"].is_null());
  info.set_compared_step(0);
  info.set_identical_bytes(7);
  info.mutable_durable_at()->set_seconds(1);
  EXPECT_EQ(CheckpointJson(info)["compared_step"], 0);
  EXPECT_EQ(CheckpointJson(info)["identical_bytes"], 7);
  EXPECT_EQ(CheckpointJson(info)["durable_at"], "1970-01-01T00:00:01Z");
}

TEST(CheckpointRecord, ADamagedOneSaysSo) {
  v1::CheckpointInfo info;
  info.set_state(v1::CHECKPOINT_STATE_COMMITTED);
  EXPECT_EQ(StateText(info), "COMMITTED");
  EXPECT_FALSE(CheckpointJson(info).contains("damage"));
  info.set_damaged_places(2);
  info.set_damage("rank 0: f.safetensors: header");
  EXPECT_EQ(StateText(info), "COMMITTED DAMAGED");
  EXPECT_EQ(CheckpointJson(info)["damage"], "rank 0: f.safetensors: header");
}

TEST(LeafRecord, LongValuesAreCutBetweenCharacters) {
  v1::Value value;
  value.set_text(std::string("x") + [] {
    std::string text;
    for (int i = 0; i < 50; ++i) text += "\xc3\xa9";
    return text;
  }());
  const std::string text = ValueText(value);
  EXPECT_LT(text.size(), 70u);
  EXPECT_EQ(text.substr(text.size() - 3), "...");
  EXPECT_TRUE(IsUtf8(text));
  value.set_text("short");
  EXPECT_EQ(ValueText(value), "\"short\"");
}

TEST(LeafRecord, TotalsReadAsAPersonWouldSay) {
  EXPECT_EQ(TotalText(1, 0, 512), "1 tensor, 512 B");
  EXPECT_EQ(TotalText(3, 1, 2048), "3 tensors and 1 value, 2.0 KiB");
  EXPECT_EQ(TotalText(0, 2, 0), "0 tensors and 2 values, 0 B");
}

}  // namespace
}  // namespace ckpt::cli
