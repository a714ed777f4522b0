#include "client/restore/run_grid.h"

#include <random>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"

namespace ckpt {
namespace {

using Moved = std::tuple<uint64_t, uint64_t, uint64_t>;  // source, destination, bytes

std::vector<Moved> Within(const RunGrid& grid, uint64_t begin, uint64_t end) {
  std::vector<Moved> runs;
  grid.ForEachWithin(begin, end, [&](uint64_t source, uint64_t destination, uint64_t bytes) {
    runs.emplace_back(source, destination, bytes);
  });
  return runs;
}

// Byte by byte: the truth that runs are compared with.
std::vector<std::pair<uint64_t, uint64_t>> Bytes(const std::vector<Moved>& runs) {
  std::vector<std::pair<uint64_t, uint64_t>> bytes;
  for (const auto& [source, destination, count] : runs) {
    for (uint64_t i = 0; i < count; ++i) bytes.emplace_back(source + i, destination + i);
  }
  return bytes;
}

TEST(RunGrid, AWholeBoxIsOneRun) {
  const Box box{{4, 0, 0}, {2, 3, 5}};
  const RunGrid grid(box, box, box, 4);
  EXPECT_EQ(grid.count(), 1u);
  EXPECT_EQ(grid.run_bytes(), 120u);
}

TEST(RunGrid, AColumnSliceIsOneRunARow) {
  const Box stored{{0, 0}, {100, 64}};
  const Box region{{10, 16}, {20, 8}};
  const RunGrid grid(region, stored, region, 2);
  EXPECT_EQ(grid.count(), 20u);
  EXPECT_EQ(grid.run_bytes(), 16u);
  EXPECT_EQ(grid.SourceAt(1), (11 * 64 + 16) * 2u);
  EXPECT_EQ(grid.DestinationAt(1), 16u);
}

TEST(RunGrid, AScalarIsOneRun) {
  const RunGrid grid(Box{}, Box{}, Box{}, 8);
  EXPECT_EQ(grid.count(), 1u);
  EXPECT_EQ(grid.run_bytes(), 8u);
  EXPECT_EQ(Within(grid, 0, 8), (std::vector<Moved>{{0, 0, 8}}));
  EXPECT_EQ(Within(grid, 3, 5), (std::vector<Moved>{{3, 3, 2}}));
}

// Random boxes of up to four dimensions: the runs move the same bytes as ForEachRun, and any window
// of the source moves exactly its share of them.
TEST(RunGrid, AgreesWithForEachRunInAnyWindow) {
  std::mt19937 random(20240601);
  const auto pick = [&](uint64_t low, uint64_t high) {
    return std::uniform_int_distribution<uint64_t>(low, high)(random);
  };
  for (int round = 0; round < 500; ++round) {
    const size_t rank = pick(0, 4);
    const uint64_t element = uint64_t{1} << pick(0, 3);
    Box region, source, destination;
    for (size_t d = 0; d < rank; ++d) {
      const uint64_t offset = pick(0, 3);
      const uint64_t extent = pick(1, 4);
      region.offset.push_back(offset + 3);
      region.extent.push_back(extent);
      for (Box* outer : {&source, &destination}) {
        const uint64_t before = pick(0, 2) == 0 ? pick(0, 3) : 0;
        const uint64_t after = pick(0, 2) == 0 ? pick(0, 3) : 0;
        outer->offset.push_back(offset + 3 - before);
        outer->extent.push_back(extent + before + after);
      }
    }
    std::vector<Moved> expected;
    ForEachRun(region, source, destination, [&](uint64_t from, uint64_t to, uint64_t count) {
      expected.emplace_back(from * element, to * element, count * element);
    });
    const RunGrid grid(region, source, destination, element);
    const uint64_t total = source.volume() * element;
    const auto all = Bytes(Within(grid, 0, total));
    ASSERT_EQ(all, Bytes(expected)) << region.ToString() << " of " << source.ToString();

    const uint64_t begin = pick(0, total);
    const uint64_t end = pick(begin, total);
    std::vector<std::pair<uint64_t, uint64_t>> share;
    for (const auto& byte : all) {
      if (byte.first >= begin && byte.first < end) share.push_back(byte);
    }
    ASSERT_EQ(Bytes(Within(grid, begin, end)), share) << "window " << begin << " " << end;
  }
}

}  // namespace
}  // namespace ckpt
