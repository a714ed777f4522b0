#include "common/values.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/limits.h"
#include "sample_layout.h"

namespace ckpt {
namespace {

TEST(ValuesTest, AreCheckedAgainstTheLayout) {
  const auto layout = PartLayout::FromProto(SampleLayout()).value();
  auto check = [&](auto edit) {
    v1::Values values;
    v1::Values::Entry* entry = values.add_entries();
    entry->set_leaf(6);
    entry->mutable_value()->set_integer(3);
    edit(values);
    EXPECT_EQ(ParseValues(values.SerializeAsString(), *layout).ok(),
              ValidateValues(values, *layout).ok());
    return ValidateValues(values, *layout);
  };
  EXPECT_TRUE(check([](v1::Values&) {}).ok());
  EXPECT_TRUE(check([](v1::Values& v) { v.Clear(); }).ok());
  EXPECT_TRUE(check([](v1::Values& v) {
                v.mutable_entries(0)->mutable_value()->set_text(
                    std::string(kValueInlineBytesMax, 'x'));
              }).ok());
  const absl::Status bad[] = {
      check([](v1::Values& v) { v.mutable_entries(0)->set_leaf(0); }),
      check([](v1::Values& v) { v.mutable_entries(0)->set_leaf(1000); }),
      check([](v1::Values& v) { v.mutable_entries(0)->clear_value(); }),
      check([](v1::Values& v) { *v.add_entries() = v1::Values::Entry(v.entries(0)); }),
      check([](v1::Values& v) {
        v.mutable_entries(0)->mutable_value()->set_raw(std::string(kValueInlineBytesMax + 1, 'x'));
      }),
  };
  for (const absl::Status& status : bad) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  }
}

// Two bytes each that would become a hundred.
TEST(ValuesTest, NoMoreAreMadeThanThereAreLeaves) {
  const auto layout = PartLayout::FromProto(SampleLayout()).value();
  std::string empty_ones;
  for (int i = 0; i < (32 << 20); ++i) empty_ones.append("\x0a\0", 2);
  const auto values = ParseValues(empty_ones, *layout);
  EXPECT_EQ(values.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(values.status().message()), testing::HasSubstr("the layout has leaves"));
}

TEST(ValuesTest, WhatIsNotKnownHereIsLeftOut) {
  const auto layout = PartLayout::FromProto(SampleLayout()).value();
  v1::Values values;
  v1::Values::Entry* entry = values.add_entries();
  entry->set_leaf(6);
  entry->mutable_value()->set_integer(3);
  const std::string known = values.SerializeAsString();
  entry->GetReflection()->MutableUnknownFields(entry)->AddVarint(1000, 1);
  entry->mutable_value()->GetReflection()->MutableUnknownFields(entry->mutable_value())->AddVarint(
      1000, 1);
  const auto parsed = ParseValues(values.SerializeAsString(), *layout);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->SerializeAsString(), known);
}

TEST(ValuesTest, WhatIsNoSuchMessageIsRefused) {
  const auto layout = PartLayout::FromProto(SampleLayout()).value();
  for (const std::string& bytes :
       {std::string("\x0a"), std::string("\x0a\x05x"), std::string("\x08\x00", 2),
        std::string("\x12\x00", 2), std::string("\x0a\x02\x08\xff"),
        "\x0a\x80\x80\x01" + std::string(1 << 14, 'x')}) {
    EXPECT_EQ(ParseValues(bytes, *layout).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace ckpt
