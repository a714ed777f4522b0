#include "client/restore/read_schedule.h"

#include <algorithm>
#include <numeric>

#include "common/key.h"
#include "common/limits.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ckpt {
namespace {

using ::testing::HasSubstr;
constexpr uint64_t kBlock = kHashBlockBytes;

// A plan of U8 tensors, each stored as row pieces.
class ReadScheduleTest : public testing::Test {
 protected:
  // Adds a leaf of `rows` x `columns` bytes, stored in pieces that begin at the given rows.
  uint32_t AddLeaf(const std::string& name, uint64_t rows, uint64_t columns,
                   std::vector<uint64_t> first_rows, v1::Tier tier = v1::TIER_DISK) {
    const auto number = static_cast<uint32_t>(leaves_.size());
    v1::PlannedLeaf leaf;
    leaf.set_leaf_number(number);
    *leaf.mutable_leaf()->mutable_key() = MakeKey({name});
    leaf.mutable_leaf()->set_kind(v1::LEAF_KIND_TENSOR);
    leaf.mutable_leaf()->set_dtype(v1::DTYPE_U8);
    leaf.mutable_leaf()->add_shape(rows);
    leaf.mutable_leaf()->add_shape(columns);
    leaves_.push_back(leaf);
    for (size_t i = 0; i < first_rows.size(); ++i) {
      const uint64_t end = i + 1 < first_rows.size() ? first_rows[i + 1] : rows;
      StoredPiece piece;
      piece.box = Box{{first_rows[i], 0}, {end - first_rows[i], columns}};
      piece.file = file_;
      piece.disk_file = tier == v1::TIER_MEMORY ? disk_file_ : FileId();
      piece.in_memory = tier == v1::TIER_MEMORY;
      piece.length = piece.box.volume();
      piece.file_offset = next_offset_;
      piece.disk_file_offset = next_offset_ + 4096;
      piece.block_bytes = kBlock;
      const uint64_t blocks = (piece.box.volume() + kBlock - 1) / kBlock;
      for (uint64_t b = 0; b < blocks; ++b) piece.block_hashes.push_back(b);
      next_offset_ += piece.box.volume();
      piece.leaf_number = number;
      pieces_.push_back(std::move(piece));
    }
    return number;
  }
  ReadTarget Target(uint32_t leaf, Box region) { return {leaf, std::move(region), buffer_}; }
  absl::StatusOr<ReadSchedule> Make(const std::vector<ReadTarget>& targets,
                                    uint32_t ranks_together = 1) {
    std::vector<PieceIndex> pieces_of_leaf(leaves_.size());
    for (uint32_t i = 0; i < pieces_.size(); ++i) {
      pieces_of_leaf[pieces_[i].leaf_number].Add(i);
    }
    for (PieceIndex& index : pieces_of_leaf) {
      if (absl::Status built = index.Build(pieces_); !built.ok()) return built;
    }
    return MakeReadSchedule(
        {leaves_, pieces_, pieces_of_leaf, ranks_together, ranks_saved_, per_rank_shared_},
        targets);
  }
  static uint64_t Bytes(const ReadSchedule& schedule) {
    uint64_t bytes = 0;
    for (const Extent& extent : schedule.extents) bytes += extent.bytes;
    return bytes;
  }

  std::byte buffer_[1];
  const FileId file_ = FileId::Random();
  const FileId disk_file_ = FileId::Random();
  uint64_t next_offset_ = 0;
  uint32_t ranks_saved_ = 8;
  bool per_rank_shared_ = false;
  std::vector<v1::PlannedLeaf> leaves_;
  std::vector<StoredPiece> pieces_;
};

TEST_F(ReadScheduleTest, ASliceOfABigTensorReadsOnlyItsBlocks) {
  const uint32_t leaf = AddLeaf("big", 1000, kBlock, {0, 500});
  const auto schedule = Make({Target(leaf, Box{{600, 10}, {3, 5}})});
  ASSERT_TRUE(schedule.ok()) << schedule.status();
  EXPECT_EQ(Bytes(*schedule), 3 * kBlock);
  EXPECT_EQ(schedule->bytes_asked, 15u);
  EXPECT_EQ(schedule->extents.front().piece, 1u);
  EXPECT_EQ(schedule->extents.front().begin, 100 * kBlock);
}

TEST_F(ReadScheduleTest, RowsFarApartLeaveTheBlocksBetweenUnread) {
  const uint32_t leaf = AddLeaf("sparse", 4, 10 * kBlock, {0});
  const auto schedule = Make({Target(leaf, Box{{0, 0}, {4, 100}})});
  ASSERT_TRUE(schedule.ok());
  EXPECT_EQ(Bytes(*schedule), 4 * kBlock);
  EXPECT_EQ(schedule->extents.size(), 4u);
}

TEST_F(ReadScheduleTest, ABlockThatSeveralTargetsTouchIsReadOnce) {
  const uint32_t leaf = AddLeaf("shared", 16, kBlock / 4, {0});
  const auto schedule =
      Make({Target(leaf, Box{{0, 0}, {1, 10}}), Target(leaf, Box{{1, 0}, {1, 10}}),
            Target(leaf, Box{{2, 0}, {9, 10}})});
  ASSERT_TRUE(schedule.ok());
  EXPECT_EQ(Bytes(*schedule), 3 * kBlock);
}

TEST_F(ReadScheduleTest, TheLastBlockEndsWithTheShard) {
  const uint32_t leaf = AddLeaf("odd", 1, kBlock + 17, {0});
  const auto schedule = Make({Target(leaf, Box{{0, kBlock}, {1, 17}})});
  ASSERT_TRUE(schedule.ok());
  EXPECT_EQ(Bytes(*schedule), 17u);
}

TEST_F(ReadScheduleTest, AnAliasReadsTheHoldersPieces) {
  const uint32_t holder = AddLeaf("held", 2, 100, {0});
  const uint32_t alias = AddLeaf("alias", 2, 100, {});
  leaves_[alias].set_alias_of(holder);
  const auto schedule = Make({Target(alias, Box{{0, 0}, {2, 100}})});
  ASSERT_TRUE(schedule.ok()) << schedule.status();
  EXPECT_EQ(Bytes(*schedule), 200u);
}

TEST_F(ReadScheduleTest, AllProblemsAreListedTogether) {
  const uint32_t gap = AddLeaf("gap", 10, 10, {5});
  const uint32_t small = AddLeaf("small", 2, 2, {0});
  ReadTarget without_buffer = Target(small, Box{{0, 0}, {2, 2}});
  without_buffer.out = nullptr;
  const auto schedule =
      Make({Target(gap, Box{{0, 0}, {10, 10}}), Target(small, Box{{0, 0}, {3, 2}}), without_buffer,
            Target(99, Box{})});
  EXPECT_EQ(schedule.status().code(), absl::StatusCode::kFailedPrecondition);
  const std::string text(schedule.status().message());
  EXPECT_THAT(text, HasSubstr("gap [0:10, 0:10]: the stored boxes of this plan hold 50 of 100"));
  EXPECT_THAT(text, HasSubstr("small [0:3, 0:2]"));
  EXPECT_THAT(text, HasSubstr("no buffer"));
  EXPECT_THAT(text, HasSubstr("leaf 99"));
}

TEST_F(ReadScheduleTest, ARegionOutsideTheLeafIsInvalid) {
  const uint32_t leaf = AddLeaf("small", 2, 2, {0});
  EXPECT_EQ(Make({Target(leaf, Box{{0, 0}, {3, 2}})}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Make({Target(leaf, Box{{0}, {1}})}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Make({Target(leaf, Box{{UINT64_MAX, 0}, {2, 1}})}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(ReadScheduleTest, AnEmptyRegionNeedsNothing) {
  const uint32_t leaf = AddLeaf("none", 4, 4, {});
  const auto schedule = Make({{leaf, Box{{0, 0}, {0, 4}}, nullptr}});
  ASSERT_TRUE(schedule.ok()) << schedule.status();
  EXPECT_TRUE(schedule->extents.empty());
}

TEST_F(ReadScheduleTest, ABlockWithoutItsHashWasNotSelected) {
  const uint32_t leaf = AddLeaf("part", 4, kBlock, {0});
  pieces_[0].first_block = 1;
  pieces_[0].block_hashes.resize(1);
  EXPECT_TRUE(Make({Target(leaf, Box{{1, 0}, {1, 10}})}).ok());
  EXPECT_EQ(Make({Target(leaf, Box{{2, 0}, {1, 10}})}).status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Make({Target(leaf, Box{{0, 0}, {1, 10}})}).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_F(ReadScheduleTest, SmallNeighboursAreReadInOneGo) {
  std::vector<ReadTarget> targets;
  for (int i = 0; i < 100; ++i) {
    const uint32_t leaf = AddLeaf("t" + std::to_string(i), 1, 1000, {0});
    if (i % 3 != 0) targets.push_back(Target(leaf, Box{{0, 0}, {1, 1000}}));
  }
  const auto schedule = Make(targets);
  ASSERT_TRUE(schedule.ok());
  std::vector<uint32_t> all(schedule->extents.size());
  for (uint32_t i = 0; i < all.size(); ++i) all[i] = i;
  const std::vector<Batch> batches = MakeBatches(pieces_, schedule->extents, all, false);
  ASSERT_EQ(batches.size(), 1u);
  EXPECT_EQ(batches[0].file_offset, 1000u);
  EXPECT_EQ(batches[0].bytes, 98000u);
}

// A little is cut finer, so that several reads of it are in flight from the start.
TEST_F(ReadScheduleTest, ReadsAreAsLongAsThereIsMuchToRead) {
  constexpr uint64_t kMiB = 1 << 20;
  for (const auto& [rows, batch_bytes] : std::vector<std::pair<uint64_t, uint64_t>>{
           {4, kMiB}, {16, kMiB}, {64, 4 * kMiB}, {512, 8 * kMiB}}) {
    const uint32_t leaf = AddLeaf("t" + std::to_string(rows), rows, kMiB, {0});
    std::byte out;  // nothing is read
    const auto schedule = Make({ReadTarget{leaf, Box{{0, 0}, {rows, kMiB}}, &out}});
    ASSERT_TRUE(schedule.ok()) << schedule.status();
    std::vector<uint32_t> all(schedule->extents.size());
    std::iota(all.begin(), all.end(), 0);
    const std::vector<Batch> batches = MakeBatches(pieces_, schedule->extents, all, false);
    EXPECT_EQ(batches.size(), rows * kMiB / batch_bytes) << rows;
    for (const Batch& batch : batches) EXPECT_EQ(batch.bytes, batch_bytes) << rows;
  }
}

// Looking at every shard for every target would be ten billion boxes, and time out.
TEST_F(ReadScheduleTest, ManyShardsReadByManyTargets) {
  constexpr uint64_t kRows = 100000;
  std::vector<uint64_t> first_rows(kRows);
  std::iota(first_rows.begin(), first_rows.end(), 0);
  const uint32_t leaf = AddLeaf("many", kRows, 8, first_rows);
  std::vector<ReadTarget> targets;
  for (uint64_t row = 0; row + 1 < kRows; ++row) {
    targets.push_back(Target(leaf, Box{{row, 4}, {2, 1}}));
  }
  const auto schedule = Make(targets);
  ASSERT_TRUE(schedule.ok()) << schedule.status();
  EXPECT_EQ(schedule->extents.size(), kRows);
  EXPECT_EQ(schedule->copies.size(), 2 * targets.size());
  EXPECT_EQ(schedule->copies_of_extents.size(), 2 * targets.size());
}

// Every extent of a shard has the copies that touch it, not all those of the shard.
TEST_F(ReadScheduleTest, OneShardReadByManyTargets) {
  constexpr uint64_t kTargets = 1000;
  const uint32_t leaf = AddLeaf("stacked", kTargets, kBlock, {0});
  std::vector<ReadTarget> targets = {Target(leaf, Box{{0, 7}, {kTargets, 1}})};
  for (uint64_t row = 0; row < kTargets; ++row) {
    targets.push_back(Target(leaf, Box{{row, 0}, {1, kBlock}}));
  }
  const auto schedule = Make(targets);
  ASSERT_TRUE(schedule.ok()) << schedule.status();
  EXPECT_EQ(schedule->extents.size(), kTargets / 4);  // of 4 MiB
  for (const Extent& extent : schedule->extents) {
    ASSERT_EQ(extent.copy_count, 5u);  // four rows, and the column that all of them have
    EXPECT_EQ(schedule->copies[schedule->copies_of_extents[extent.first_copy]].target, 0u);
  }
}

TEST_F(ReadScheduleTest, OverlappingPiecesAreNoPlan) {
  AddLeaf("twice", 10, 10, {0, 5});
  pieces_[1].box = Box{{4, 0}, {5, 10}};  // row 4 twice, row 9 not at all: as many elements
  const auto schedule = Make({Target(0, Box{{0, 0}, {10, 10}})});
  EXPECT_EQ(schedule.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(schedule.status().message()), HasSubstr("overlap"));
}

TEST_F(ReadScheduleTest, WhatOthersWantTooIsKnownByPlacementOrByCounting) {
  const uint32_t leaf = AddLeaf("weights", 103, 10, {0});
  const auto wanted = [&](v1::Placement placement, uint64_t rows, uint32_t ranks) {
    leaves_[leaf].mutable_leaf()->set_placement(placement);
    return Make({Target(leaf, Box{{0, 0}, {rows, 10}})}, ranks)->extents[0].wanted_by_others;
  };
  EXPECT_TRUE(wanted(v1::PLACEMENT_REPLICATED, 1, 8));
  EXPECT_FALSE(wanted(v1::PLACEMENT_REPLICATED, 103, 1)) << "there are no others";
  EXPECT_FALSE(wanted(v1::PLACEMENT_SHARDED, 13, 8)) << "its share, rounded up";
  EXPECT_TRUE(wanted(v1::PLACEMENT_SHARDED, 26, 8)) << "twice its share: two groups of four";
  EXPECT_TRUE(wanted(v1::PLACEMENT_SHARDED, 103, 8));
}

TEST_F(ReadScheduleTest, AnotherRanksOwnIsWantedByOthersToo) {
  const uint32_t leaf = AddLeaf("position", 103, 10, {0});
  leaves_[leaf].mutable_leaf()->set_placement(v1::PLACEMENT_PER_RANK);
  const auto wanted = [&](uint32_t ranks) {
    return Make({Target(leaf, Box{{0, 0}, {1, 10}})}, ranks)->extents[0].wanted_by_others;
  };
  EXPECT_FALSE(wanted(8)) << "each rank reads its own";
  EXPECT_TRUE(wanted(9)) << "nine ranks read those of eight";
  ranks_saved_ = 0;
  EXPECT_FALSE(wanted(9)) << "nobody knows of how many";
  ranks_saved_ = 8;
  per_rank_shared_ = true;
  EXPECT_TRUE(wanted(8)) << "all read one rank's";
  EXPECT_FALSE(wanted(1)) << "there are no others";
}

TEST_F(ReadScheduleTest, BatchesKeepTiersAndFilesApart) {
  const uint32_t disk = AddLeaf("disk", 1, 1000, {0});
  const uint32_t memory = AddLeaf("memory", 1, 1000, {0}, v1::TIER_MEMORY);
  const auto schedule =
      Make({Target(disk, Box{{0, 0}, {1, 1000}}), Target(memory, Box{{0, 0}, {1, 1000}})});
  ASSERT_TRUE(schedule.ok());
  const std::vector<uint32_t> all = {0, 1};
  EXPECT_EQ(MakeBatches(pieces_, schedule->extents, all, false).size(), 2u);
  const std::vector<Batch> second =
      MakeBatches(pieces_, schedule->extents, std::vector<uint32_t>{1}, true);
  ASSERT_EQ(second.size(), 1u);
  EXPECT_EQ(second[0].file, disk_file_);
  EXPECT_EQ(second[0].file_offset, 1000u + 4096u);
  EXPECT_FALSE(second[0].from_memory);
}

}  // namespace
}  // namespace ckpt
