// Rows of the index: what an earlier daemon wrote must stay readable.
#include "server/index/record.h"

#include "absl/strings/escaping.h"
#include "gtest/gtest.h"

namespace ckpt {
namespace {

// Lengths and numbers are eight bytes, little-endian: a manifest of run "r" at step 7, labels with
// the tag "a", 3 shards, 1000 bytes.
constexpr char kCheckpointRowOfOld[] =
    "0700000000000000"
    "12050a01721007"
    "0300000000000000"
    "0a0161"
    "0300000000000000"
    "e803000000000000";

TEST(IndexRecord, ARowWithoutAComparisonIsReadAsItWasWritten) {
  const std::string row = absl::HexStringToBytes(kCheckpointRowOfOld);
  const auto record = index_records::DecodeCheckpoint(row);
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(record->manifest.id().run(), "r");
  EXPECT_EQ(record->manifest.id().step(), 7u);
  EXPECT_EQ(record->labels.tags(0), "a");
  EXPECT_EQ(record->shard_count, 3u);
  EXPECT_EQ(record->data_bytes, 1000u);
  EXPECT_FALSE(record->compared_step.has_value());
  EXPECT_EQ(index_records::Encode(*record), row);
}

TEST(IndexRecord, AComparisonStandsBehindIt) {
  CheckpointRecord record =
      *index_records::DecodeCheckpoint(absl::HexStringToBytes(kCheckpointRowOfOld));
  record.compared_step = 0;
  record.identical_bytes = 999;
  const std::string row = index_records::Encode(record);
  const auto decoded = index_records::DecodeCheckpoint(row);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->compared_step, 0u);
  EXPECT_EQ(decoded->identical_bytes, 999u);
  for (size_t cut = 1; cut < 16; ++cut) {
    EXPECT_TRUE(absl::IsDataLoss(
        index_records::DecodeCheckpoint(row.substr(0, row.size() - cut)).status()))
        << cut;
  }
}

}  // namespace
}  // namespace ckpt
