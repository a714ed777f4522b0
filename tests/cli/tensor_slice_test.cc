#include "client/cli/tensor_slice.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ckpt::cli {
namespace {

using ::testing::HasSubstr;

std::string BoxText(absl::string_view text, std::vector<uint64_t> shape) {
  const absl::StatusOr<TensorSlice> slice = ParseTensorSlice(text);
  if (!slice.ok()) return std::string(slice.status().message());
  const absl::StatusOr<Box> box = BoxOf(*slice, shape);
  return box.ok() ? box->ToString() : std::string(box.status().message());
}

TEST(TensorSlice, IsWrittenAsInPython) {
  EXPECT_EQ(BoxText("w[0:100,:]", {200, 64}), "[0:100, 0:64]");
  EXPECT_EQ(BoxText("w[10:20, 1:3]", {200, 64}), "[10:20, 1:3]");
  EXPECT_EQ(BoxText("w[:5]", {200, 64}), "[0:5, 0:64]") << "further dimensions are whole";
  EXPECT_EQ(BoxText("w[195:]", {200}), "[195:200]");
  EXPECT_EQ(BoxText("w[-5:,:-60]", {200, 64}), "[195:200, 0:4]");
  EXPECT_EQ(BoxText("w[3]", {200}), "[3:4]") << "no dimension is dropped";
  EXPECT_EQ(BoxText("w[-1]", {200}), "[199:200]");
  EXPECT_EQ(BoxText("w[-2]", {200}), "[198:199]");
  EXPECT_EQ(BoxText("w[0:200]", {200}), "[0:200]");
}

TEST(TensorSlice, TheKeyMayHoldBracketsAndDots) {
  EXPECT_EQ(ParseTensorSlice("a[0].b[1:2]")->key, "a[0].b");
  EXPECT_EQ(ParseTensorSlice("model.layers.0.weight[:]")->key, "model.layers.0.weight");
}

TEST(TensorSlice, WhatIsNotThereIsAnErrorAndNotLess) {
  for (const char* text : {"w[0:201]", "w[-201:]", "w[201:]", "w[200]", "w[-201]"}) {
    EXPECT_THAT(BoxText(text, {200}), HasSubstr("w has the shape [200]")) << text;
  }
  EXPECT_THAT(BoxText("w[5:5]", {200}), HasSubstr("5:5 of dimension 0 is empty"));
  EXPECT_THAT(BoxText("w[:,7:3]", {200, 64}), HasSubstr("7:3 of dimension 1 is empty"));
  EXPECT_THAT(BoxText("w[:,:]", {200}), HasSubstr("2 ranges"));
  EXPECT_THAT(BoxText("w[0]", {}), HasSubstr("1 ranges"));
  EXPECT_THAT(BoxText("w[9223372036854775807:]", {200}), HasSubstr("leaves it"));
  EXPECT_THAT(BoxText("w[-9223372036854775808:]", {200}), HasSubstr("leaves it"));
}

TEST(TensorSlice, MalformedTextIsQuoted) {
  for (const char* text :
       {"w", "w[", "w]", "[0:1]", "w[]", "w[0:1", "w[0:1:2]", "w[a:b]", "w[0:1,]", "w[1.5]",
        "w[0x1]", "w[9223372036854775807]", "w[99999999999999999999:]", ""}) {
    const absl::StatusOr<TensorSlice> slice = ParseTensorSlice(text);
    ASSERT_FALSE(slice.ok()) << text;
    EXPECT_THAT(std::string(slice.status().message()),
                HasSubstr(std::string("not \"") + text + "\""));
  }
}

TEST(TensorSlice, OfManyEachThatIsWrongIsTold) {
  const std::vector<std::string> texts = {"w[0]", "a", "b[", "w[1]", "c[2]"};
  const std::string told(ParseTensorSlices(texts).status().message());
  EXPECT_THAT(told, HasSubstr("not \"a\""));
  EXPECT_THAT(told, HasSubstr("not \"b[\""));
  EXPECT_THAT(told, HasSubstr("--slice w[1]: one box"));
  EXPECT_THAT(told, ::testing::Not(HasSubstr("c[2]")));
  EXPECT_EQ(ParseTensorSlices({"w[0]", "c[2]"})->size(), 2u);
}

}  // namespace
}  // namespace ckpt::cli
