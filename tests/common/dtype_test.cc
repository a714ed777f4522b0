#include "common/dtype.h"

#include <gtest/gtest.h>

namespace ckpt {
namespace {

TEST(DTypeTest, EveryDTypeHasASizeAndANameThatReadsBack) {
  for (int i = v1::DType_MIN + 1; i <= v1::DType_MAX; ++i) {
    const DType dtype = static_cast<DType>(i);
    const uint64_t bytes = DTypeBytes(dtype);
    EXPECT_TRUE(bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8) << i;
    EXPECT_EQ(ParseDType(DTypeName(dtype)).value(), dtype);
    EXPECT_EQ("DTYPE_" + std::string(DTypeName(dtype)), v1::DType_Name(dtype));
  }
  EXPECT_EQ(DTypeBytes(v1::DTYPE_BF16), 2u);
  EXPECT_EQ(DTypeBytes(v1::DTYPE_C64), 8u);
  EXPECT_EQ(SafetensorsDTypeName(v1::DTYPE_C64), "F32");
}

TEST(DTypeTest, UnknownOnes) {
  EXPECT_EQ(DTypeBytes(v1::DTYPE_UNSPECIFIED), 0u);
  EXPECT_EQ(DTypeBytes(static_cast<DType>(99)), 0u);
  EXPECT_EQ(DTypeBytes(static_cast<DType>(-1)), 0u);
  EXPECT_EQ(ParseDType("F3").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ParseDType("").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace ckpt
