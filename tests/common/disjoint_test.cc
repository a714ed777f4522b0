#include <gtest/gtest.h>

#include <limits>

#include "common/box.h"
#include "random_boxes.h"

namespace ckpt {
namespace {

bool AnyOverlap(const std::vector<Box>& boxes) {
  for (size_t i = 0; i < boxes.size(); ++i) {
    for (size_t j = i + 1; j < boxes.size(); ++j) {
      if (Intersect(boxes[i], boxes[j])) return true;
    }
  }
  return false;
}

void ExpectOverlap(const absl::Status& status, const std::vector<Box>& boxes) {
  ASSERT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  size_t a = 0, b = 0;
  ASSERT_EQ(sscanf(std::string(status.message()).c_str(), "boxes %zu and %zu overlap", &a, &b), 2)
      << status;
  ASSERT_LT(a, b);
  ASSERT_LT(b, boxes.size());
  EXPECT_TRUE(Intersect(boxes[a], boxes[b]));
}

TEST(DisjointTest, RandomTilingsAreDisjoint) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(seed);
    RandomBoxes random(seed);
    const Box whole = random.Inside(random.Shape(random.Number(1, 5), 12));
    std::vector<Box> boxes = random.Tiling(whole, random.Number(1, 400));
    EXPECT_TRUE(CheckDisjoint(boxes).ok());
    boxes.resize(boxes.size() / 2);  // gaps
    EXPECT_TRUE(CheckDisjoint(boxes).ok());
  }
}

// Of boxes drawn at random, some of them long in some dimensions, those that meet none before them:
// mostly no plane passes between them.
std::vector<Box> Interlocked(RandomBoxes& random, size_t rank, size_t tries) {
  constexpr uint64_t kSide = 400;
  std::vector<Box> boxes;
  for (size_t i = 0; i < tries; ++i) {
    Box box;
    for (size_t d = 0; d < rank; ++d) {
      const uint64_t extent =
          random.Number(0, 2) == 0 ? random.Number(kSide / 2, kSide) : random.Number(1, kSide / 12);
      box.offset.push_back(random.Number(0, kSide - extent));
      box.extent.push_back(extent);
    }
    const bool meets = std::any_of(boxes.begin(), boxes.end(), [&](const Box& other) {
      return Intersect(box, other).has_value();
    });
    if (!meets) boxes.push_back(std::move(box));
  }
  return boxes;
}

// Tilings in which one box is made larger or shifted: overlaps are found if and only if there are
// any.
TEST(DisjointTest, FindsOverlapsExactly) {
  int overlapping = 0, disjoint = 0;
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    SCOPED_TRACE(seed);
    RandomBoxes random(seed);
    const size_t rank = random.Number(1, 5);
    const Box whole = Box::Whole(random.Shape(rank, 10));
    std::vector<Box> boxes = seed % 2 == 0 ? random.Tiling(whole, random.Number(2, 300))
                                           : Interlocked(random, rank, random.Number(2, 400));
    const size_t count = boxes.size();
    boxes.resize(random.Number(std::max<size_t>(count / 2, 1), count));
    const size_t i = random.Number(0, boxes.size() - 1);
    const size_t d = random.Number(0, rank - 1);
    if (random.Number(0, 1) == 0) {
      ++boxes[i].extent[d];
    } else if (boxes[i].offset[d] > 0) {
      --boxes[i].offset[d];
    }
    const bool expected = AnyOverlap(boxes);
    (expected ? overlapping : disjoint)++;
    const absl::Status status = CheckDisjoint(boxes);
    ASSERT_EQ(status.ok(), !expected) << status;
    if (expected) ExpectOverlap(status, boxes);
  }
  EXPECT_GT(overlapping, 200);
  EXPECT_GT(disjoint, 200);
}

// Five boxes around a middle, which no plane separates, stretched along further dimensions.
TEST(DisjointTest, PinwheelsWithoutASeparatingPlane) {
  std::vector<Box> boxes;
  const uint64_t wheel[5][4] = {
      {0, 0, 2, 1}, {2, 0, 1, 2}, {1, 2, 2, 1}, {0, 1, 1, 2}, {1, 1, 1, 1}};
  // The same wheel in all three planes, so that the group differs in three dimensions.
  for (uint64_t layer = 0; layer < 8; ++layer) {
    for (const auto& [x, y, w, h] : wheel) {
      boxes.push_back({{x, y, layer}, {w, h, 1}});
    }
  }
  const Box whole = Box::Whole({3, 3, 8});
  EXPECT_TRUE(CheckTiling(boxes, whole).ok());
  // Interlock the layers: a column that stands through two of them.
  boxes[4].extent[2] = 2;
  ExpectOverlap(CheckDisjoint(boxes), boxes);
  boxes.erase(boxes.begin() + 9);
  EXPECT_TRUE(CheckTiling(boxes, whole).ok());
  boxes.push_back({{1, 1, 1}, {1, 1, 1}});
  ExpectOverlap(CheckDisjoint(boxes), boxes);
}

TEST(DisjointTest, EdgeCases) {
  const Box scalar;
  EXPECT_TRUE(CheckDisjoint({}).ok());
  EXPECT_TRUE(CheckDisjoint({scalar}).ok());
  EXPECT_FALSE(CheckDisjoint({scalar, scalar}).ok());
  const Box empty = {{0, 3}, {0, 2}};
  EXPECT_TRUE(CheckDisjoint({empty, empty}).ok());
  EXPECT_FALSE(CheckDisjoint({scalar, Box::Whole({2})}).ok());
  const Box far = {{std::numeric_limits<uint64_t>::max()}, {2}};
  EXPECT_EQ(CheckDisjoint({far}).code(), absl::StatusCode::kFailedPrecondition);
  const std::vector<Box> same(20, Box::Whole({3, 3, 3}));
  ExpectOverlap(CheckDisjoint(same), same);
}

TEST(DisjointTest, ManyRowsAreQuick) {
  RandomBoxes random(1);
  std::vector<Box> boxes;
  constexpr uint64_t kRows = 300000;
  for (uint64_t row = 0; row < kRows; ++row) boxes.push_back({{row, 0}, {1, 64}});
  std::shuffle(boxes.begin(), boxes.end(), random.generator());
  EXPECT_TRUE(CheckDisjoint(boxes).ok());
  boxes[77].extent[0] = 2;
  boxes[77].offset[0] = std::min(boxes[77].offset[0], kRows - 2);
  ExpectOverlap(CheckDisjoint(boxes), boxes);
}

// Nothing about the time is asserted, but a quadratic check would run into the test's limit.
TEST(DisjointTest, LargeGridsAreQuick) {
  std::vector<Box> grid;
  for (uint64_t x = 0; x < 40; ++x) {
    for (uint64_t y = 0; y < 40; ++y) {
      for (uint64_t z = 0; z < 40; ++z) grid.push_back({{x * 2, y * 3, z * 4}, {2, 3, 4}});
    }
  }
  EXPECT_TRUE(CheckDisjoint(grid).ok());
  // No plane parts the grid but for the one that takes off the slab.
  for (Box& box : grid) box.offset[2] += 1;
  grid.push_back({{0, 0, 0}, {80, 120, 1}});
  EXPECT_TRUE(CheckDisjoint(grid).ok());
  ++grid[31415].extent[1];
  ExpectOverlap(CheckDisjoint(grid), grid);
}

// Slabs off one side of what is left, each in another dimension: a plane parts no more than one
// from the others.
std::vector<Box> Stairs(size_t rank, size_t count) {
  std::vector<Box> stairs;
  Box left = Box::Whole(std::vector<uint64_t>(rank, count));
  for (size_t i = 0; i < count; ++i) {
    const size_t d = i % rank;
    Box slab = left;
    slab.offset[d] = --left.extent[d];
    slab.extent[d] = 1;
    stairs.push_back(slab);
  }
  return stairs;
}

TEST(DisjointTest, StairsAreNotRefused) {
  for (size_t rank = 2; rank <= 5; ++rank) {
    SCOPED_TRACE(rank);
    std::vector<Box> stairs = Stairs(rank, 20000);
    std::shuffle(stairs.begin(), stairs.end(), RandomBoxes(rank).generator());
    const absl::Status status = CheckDisjoint(stairs);
    EXPECT_TRUE(status.ok()) << status;
    for (size_t d = 0; d < rank; ++d) {
      if (stairs[777].extent[d] == 1) ++stairs[777].extent[d];  // into the one before
    }
    ExpectOverlap(CheckDisjoint(stairs), stairs);
  }
}

// What is refused has been looked at for a bounded time: else this test would not end.
TEST(DisjointTest, BoxesMadeToBeHardAreRefused) {
  const absl::Status status = CheckDisjoint(Stairs(16, 4000));
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
}

}  // namespace
}  // namespace ckpt
