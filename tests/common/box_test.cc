#include "common/box.h"

#include <gtest/gtest.h>

#include <limits>

#include "random_boxes.h"

namespace ckpt {
namespace {

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

Box MakeBox(Extents offset, Extents extent) { return {std::move(offset), std::move(extent)}; }

bool Holds(const Box& box, const Extents& point) {
  for (size_t d = 0; d < point.size(); ++d) {
    if (point[d] < box.offset[d] || point[d] - box.offset[d] >= box.extent[d]) return false;
  }
  return true;
}

// Calls `visit` with every point of `shape` in row-major order.
template <typename Visit>
void ForEachPoint(const Extents& shape, Visit visit) {
  Extents point(shape.size(), 0);
  while (true) {
    visit(point);
    size_t d = shape.size();
    while (d > 0 && ++point[d - 1] == shape[d - 1]) point[--d] = 0;
    if (d == 0) return;
  }
}

uint64_t Linear(const Box& box, const Extents& point) {
  uint64_t at = 0;
  for (size_t d = 0; d < point.size(); ++d) at = at * box.extent[d] + point[d] - box.offset[d];
  return at;
}

TEST(BoxTest, VolumeOfNoDimensionsIsOne) {
  EXPECT_EQ(Box{}.volume(), 1u);
  EXPECT_FALSE(Box{}.empty());
  EXPECT_EQ(MakeBox({0, 0}, {3, 4}).volume(), 12u);
  EXPECT_TRUE(MakeBox({5, 0}, {0, 4}).empty());
  EXPECT_EQ(MakeBox({0, 0}, {kMax, 2}).volume(), kMax);
  EXPECT_EQ(MakeBox({0, 0, 0}, {kMax, 2, 0}).volume(), 0u);
}

TEST(BoxTest, VolumeOfAShapeStopsAtOverflow) {
  EXPECT_EQ(Volume({}), 1u);
  EXPECT_EQ(Volume({3, 4}), 12u);
  EXPECT_EQ(Volume({uint64_t{1} << 32, uint64_t{1} << 31}), uint64_t{1} << 63);
  EXPECT_EQ(Volume({uint64_t{1} << 32, uint64_t{1} << 32}), std::nullopt);
  EXPECT_EQ(Volume({kMax, 0}), 0u);
}

TEST(BoxTest, ValidateBoxRefusesWhatLeavesTheShape) {
  EXPECT_TRUE(ValidateBox(MakeBox({1, 2}, {3, 2}), {4, 4}).ok());
  EXPECT_TRUE(ValidateBox(Box{}, {}).ok());
  EXPECT_TRUE(ValidateBox(MakeBox({4}, {0}), {4}).ok());
  for (const Box& box :
       {MakeBox({1}, {4}), MakeBox({5}, {0}), MakeBox({kMax}, {2}), MakeBox({2}, {kMax}),
        MakeBox({0, 0}, {1, 1}), MakeBox({}, {4}), MakeBox({0}, {})}) {
    EXPECT_EQ(ValidateBox(box, {4}).code(), absl::StatusCode::kInvalidArgument) << box.ToString();
  }
}

TEST(BoxTest, PrintsRanges) {
  EXPECT_EQ(MakeBox({0, 8}, {4, 8}).ToString(), "[0:4, 8:16]");
  EXPECT_EQ(Box{}.ToString(), "[]");
}

TEST(BoxTest, ProtoRoundTrip) {
  const Box box = MakeBox({1, 2, 3}, {4, 5, 6});
  v1::Box proto;
  proto.add_extent(9);  // left over from before
  box.ToProto(&proto);
  EXPECT_EQ(Box::FromProto(proto), box);
}

TEST(BoxTest, OrderIsByOffsetThenExtent) {
  EXPECT_LT(MakeBox({0, 1}, {9, 9}), MakeBox({0, 2}, {1, 1}));
  EXPECT_LT(MakeBox({0, 1}, {1, 9}), MakeBox({0, 1}, {2, 1}));
}

TEST(BoxTest, IntersectionHoldsExactlyTheCommonPoints) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(seed);
    RandomBoxes random(seed);
    const Extents shape = random.Shape(random.Number(1, 3), 6);
    const Box a = random.Inside(shape), b = random.Inside(shape);
    const std::optional<Box> both = Intersect(a, b);
    EXPECT_EQ(both, Intersect(b, a));
    ForEachPoint(shape, [&](const Extents& point) {
      ASSERT_EQ(both && Holds(*both, point), Holds(a, point) && Holds(b, point));
    });
    EXPECT_EQ(Contains(a, b), both && *both == b);
  }
}

TEST(BoxTest, IntersectionOfEdgeCases) {
  EXPECT_EQ(Intersect(Box{}, Box{}), Box{});
  EXPECT_EQ(Intersect(MakeBox({0}, {4}), MakeBox({2}, {0})), std::nullopt);
  EXPECT_EQ(Intersect(MakeBox({0}, {4}), MakeBox({4}, {4})), std::nullopt);
  EXPECT_EQ(Intersect(MakeBox({0}, {4}), MakeBox({0, 0}, {4, 4})), std::nullopt);
  EXPECT_EQ(Intersect(MakeBox({kMax - 1}, {9}), MakeBox({kMax - 2}, {2})),
            MakeBox({kMax - 1}, {1}));
}

// Copies a region between two random boxes that hold it, run by run, and element by element.
TEST(BoxTest, RunsCopyExactlyTheRegion) {
  for (uint64_t seed = 0; seed < 500; ++seed) {
    SCOPED_TRACE(seed);
    RandomBoxes random(seed);
    const Extents shape = random.Shape(random.Number(1, 4), 5);
    const Box source = random.Inside(shape), destination = random.Inside(shape);
    const std::optional<Box> region = Intersect(source, destination);
    if (!region) continue;
    std::vector<int64_t> expected(destination.volume(), -1), copied(destination.volume(), -1);
    ForEachPoint(shape, [&](const Extents& point) {
      if (Holds(*region, point)) {
        expected[Linear(destination, point)] = static_cast<int64_t>(Linear(source, point));
      }
    });
    uint64_t last_end = 0;
    uint64_t last_destination_end = kMax;
    ForEachRun(*region, source, destination, [&](uint64_t from, uint64_t to, uint64_t count) {
      ASSERT_GT(count, 0u);
      ASSERT_GE(from, last_end) << "ascending";
      ASSERT_FALSE(from == last_end && to == last_destination_end && last_end != 0)
          << "two runs that touch on both sides are one";
      ASSERT_LE(from + count, source.volume());
      ASSERT_LE(to + count, destination.volume());
      last_end = from + count;
      last_destination_end = to + count;
      for (uint64_t i = 0; i < count; ++i) copied[to + i] = static_cast<int64_t>(from + i);
    });
    ASSERT_EQ(copied, expected);
  }
}

TEST(BoxTest, RunsOfWholeTensorsAreOne) {
  const Box whole = Box::Whole({4, 5, 6});
  int runs = 0;
  ForEachRun(whole, whole, whole, [&](uint64_t from, uint64_t to, uint64_t count) {
    EXPECT_EQ(from, 0u);
    EXPECT_EQ(to, 0u);
    EXPECT_EQ(count, 120u);
    ++runs;
  });
  EXPECT_EQ(runs, 1);
  ForEachRun(Box{}, Box{}, Box{}, [&](uint64_t, uint64_t, uint64_t count) {
    EXPECT_EQ(count, 1u);
    ++runs;
  });
  EXPECT_EQ(runs, 2);
  const Box nothing = MakeBox({0, 0}, {0, 3});
  ForEachRun(nothing, nothing, nothing, [&](uint64_t, uint64_t, uint64_t) { ++runs; });
  EXPECT_EQ(runs, 2);
}

}  // namespace
}  // namespace ckpt
