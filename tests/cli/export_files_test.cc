#include "client/cli/export_files.h"

#include "gtest/gtest.h"

namespace ckpt::cli {
namespace {

// The slabs must be contiguous in the whole array, in order, without holes, and within the bound.
void CheckSlabs(const Extents& shape, uint64_t element_bytes, uint64_t bytes_max) {
  uint64_t next = 0;
  ForEachSlab(shape, element_bytes, bytes_max, [&](const Box& slab) {
    EXPECT_TRUE(slab.volume() * element_bytes <= bytes_max || slab.volume() == 1)
        << slab.ToString();
    int runs = 0;
    ForEachRun(slab, Box::Whole(shape), slab, [&](uint64_t source, uint64_t, uint64_t elements) {
      ++runs;
      EXPECT_EQ(source, next);
      next = source + elements;
    });
    EXPECT_EQ(runs, 1) << slab.ToString() << " is not contiguous";
  });
  EXPECT_EQ(next, Volume(shape).value());
}

TEST(Slabs, CoverEveryShapeInOrder) {
  CheckSlabs({}, 8, 64);
  CheckSlabs({10}, 4, 1000);
  CheckSlabs({10}, 4, 12);
  CheckSlabs({3, 5, 7}, 4, 28 * 2);  // rows of the last dimension but one
  CheckSlabs({3, 5, 7}, 4, 140);     // exactly one slice of the first
  CheckSlabs({3, 5, 7}, 4, 300);     // two slices
  CheckSlabs({3, 5, 7}, 4, 12);      // within a row
  CheckSlabs({1, 1, 9}, 2, 4);
  CheckSlabs({2, 3}, 8, 1);  // not even one element
  CheckSlabs({0, 4}, 4, 16);
  CheckSlabs({4, 0}, 4, 16);
}

ExportTensor Tensor(std::string name, DType dtype, uint64_t bytes) {
  return {.name = std::move(name), .dtype = dtype, .shape = {bytes}, .bytes = bytes};
}

TEST(CutIntoFiles, FillsInOrderAndSortsWithin) {
  const auto files =
      CutIntoFiles({Tensor("z", v1::DTYPE_U8, 30), Tensor("b", v1::DTYPE_F64, 40),
                    Tensor("a", v1::DTYPE_F64, 30), Tensor("big", v1::DTYPE_F32, 500),
                    Tensor("c", v1::DTYPE_F32, 10)},
                   100);
  ASSERT_EQ(files.size(), 3u);
  ASSERT_EQ(files[0].size(), 3u);
  EXPECT_EQ(files[0][0].name, "a");  // wide elements first, then by name
  EXPECT_EQ(files[0][1].name, "b");
  EXPECT_EQ(files[0][2].name, "z");
  ASSERT_EQ(files[1].size(), 1u);  // larger than a file may be: alone
  EXPECT_EQ(files[1][0].name, "big");
  EXPECT_EQ(files[2][0].name, "c");
}

TEST(CutIntoFiles, NothingIsStillOneFile) { EXPECT_EQ(CutIntoFiles({}, 100).size(), 1u); }

}  // namespace
}  // namespace ckpt::cli
