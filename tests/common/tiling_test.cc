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

TEST(TilingTest, RandomTilingsAreTilings) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(seed);
    RandomBoxes random(seed);
    const Box whole = random.Inside(random.Shape(random.Number(1, 4), 12));
    const std::vector<Box> boxes = random.Tiling(whole, random.Number(1, 60));
    EXPECT_TRUE(CheckTiling(boxes, &whole).ok());
    EXPECT_TRUE(CheckTiling(boxes, nullptr).ok());
  }
}

TEST(TilingTest, AMissingBoxIsFound) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE(seed);
    RandomBoxes random(seed);
    const Box whole = Box::Whole(random.Shape(3, 9));
    std::vector<Box> boxes = random.Tiling(whole, 30);
    boxes.pop_back();
    EXPECT_TRUE(CheckTiling(boxes, nullptr).ok());
    const absl::Status status = CheckTiling(boxes, &whole);
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_NE(status.message().find("elements of"), absl::string_view::npos) << status;
  }
}

// Tilings in which one box is made larger or shifted: overlaps are found if and only if there are
// any.
TEST(TilingTest, FindsOverlapsExactly) {
  int overlapping = 0, disjoint = 0;
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    SCOPED_TRACE(seed);
    RandomBoxes random(seed);
    const size_t rank = random.Number(1, 4);
    const Box whole = Box::Whole(random.Shape(rank, 10));
    std::vector<Box> boxes = random.Tiling(whole, random.Number(2, 50));
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
    const absl::Status status = CheckTiling(boxes, nullptr);
    ASSERT_EQ(status.ok(), !expected) << status;
    if (!expected) continue;
    size_t a = 0, b = 0;
    ASSERT_EQ(sscanf(std::string(status.message()).c_str(), "boxes %zu and %zu overlap", &a, &b), 2)
        << status;
    ASSERT_LT(a, b);
    EXPECT_TRUE(Intersect(boxes[a], boxes[b]));
  }
  EXPECT_GT(overlapping, 200);
  EXPECT_GT(disjoint, 200);
}

// Five boxes around a middle, which no plane separates, stretched along further dimensions.
TEST(TilingTest, PinwheelsWithoutASeparatingPlane) {
  std::vector<Box> boxes;
  const uint64_t wheel[5][4] = {
      {0, 0, 2, 1}, {2, 0, 1, 2}, {1, 2, 2, 1}, {0, 1, 1, 2}, {1, 1, 1, 1}};
  // The same wheel in all three planes, so that the group differs in three dimensions.
  for (uint64_t layer = 0; layer < 8; ++layer) {
    for (const auto& [x, y, w, h] : wheel) {
      boxes.push_back({{x, y, layer}, {w, h, 1}});
    }
  }
  Box whole = Box::Whole({3, 3, 8});
  EXPECT_TRUE(CheckTiling(boxes, &whole).ok());
  // Interlock the layers: a column that stands through two of them.
  boxes[4].extent[2] = 2;
  EXPECT_FALSE(CheckTiling(boxes, &whole).ok());
  boxes.erase(boxes.begin() + 9);
  EXPECT_TRUE(CheckTiling(boxes, &whole).ok());
  boxes.push_back({{1, 1, 1}, {1, 1, 1}});
  EXPECT_FALSE(CheckTiling(boxes, nullptr).ok());
}

TEST(TilingTest, EdgeCases) {
  const Box scalar;
  EXPECT_TRUE(CheckTiling({}, nullptr).ok());
  EXPECT_TRUE(CheckTiling({scalar}, &scalar).ok());
  EXPECT_FALSE(CheckTiling({}, &scalar).ok());
  EXPECT_FALSE(CheckTiling({scalar, scalar}, &scalar).ok());
  const Box empty = {{0, 3}, {0, 2}};
  const Box none = {{0, 0}, {0, 9}};
  EXPECT_TRUE(CheckTiling({}, &none).ok());
  EXPECT_TRUE(CheckTiling({empty, empty}, nullptr).ok());
  EXPECT_FALSE(CheckTiling({scalar, Box::Whole({2})}, nullptr).ok());
  const Box far = {{std::numeric_limits<uint64_t>::max()}, {2}};
  EXPECT_EQ(CheckTiling({far}, nullptr).code(), absl::StatusCode::kFailedPrecondition);
  const Box line = Box::Whole({10});
  const Box outside = {{8}, {3}};
  EXPECT_EQ(CheckTiling({outside}, &line).code(), absl::StatusCode::kFailedPrecondition);
  std::vector<Box> same(20, Box::Whole({3, 3, 3}));
  EXPECT_FALSE(CheckTiling(same, nullptr).ok());
}

TEST(TilingTest, ManyRowsAreQuick) {
  RandomBoxes random(1);
  std::vector<Box> boxes;
  constexpr uint64_t kRows = 300000;
  for (uint64_t row = 0; row < kRows; ++row) boxes.push_back({{row, 0}, {1, 64}});
  std::shuffle(boxes.begin(), boxes.end(), random.generator());
  const Box whole = Box::Whole({kRows, 64});
  EXPECT_TRUE(CheckTiling(boxes, &whole).ok());
  boxes[77].extent[0] = 2;
  boxes[77].offset[0] = std::min(boxes[77].offset[0], kRows - 2);
  EXPECT_FALSE(CheckTiling(boxes, &whole).ok());
}

// Nothing about the time is asserted, but a quadratic check would run into the test's limit.
TEST(TilingTest, LargeGridsAndStairsAreQuick) {
  std::vector<Box> grid;
  for (uint64_t x = 0; x < 30; ++x) {
    for (uint64_t y = 0; y < 30; ++y) {
      for (uint64_t z = 0; z < 30; ++z) grid.push_back({{x * 2, y * 3, z * 4}, {2, 3, 4}});
    }
  }
  const Box whole = Box::Whole({60, 90, 120});
  EXPECT_TRUE(CheckTiling(grid, &whole).ok());
  // Each box can be cut off only once the one before is gone: linear many levels.
  std::vector<Box> stairs;
  uint64_t extent[3] = {200000, 200000, 200000};
  for (int i = 0; i < 60000; ++i) {
    const int d = i % 3;
    Box box = Box::Whole({extent[0], extent[1], extent[2]});
    box.offset[d] = --extent[d];
    box.extent[d] = 1;
    stairs.push_back(box);
  }
  const absl::Status status = CheckTiling(stairs, nullptr);
  EXPECT_TRUE(status.ok() || status.code() == absl::StatusCode::kResourceExhausted) << status;
}

}  // namespace
}  // namespace ckpt
