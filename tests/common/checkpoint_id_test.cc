#include "common/checkpoint_id.h"

#include <gtest/gtest.h>

#include "common/limits.h"
#include "common/utf8.h"

namespace ckpt {
namespace {

TEST(CheckpointIdTest, RunNames) {
  for (const std::string& run :
       {std::string("a"), std::string("team/llama-7b_sft.v2"), std::string("..."),
        std::string("a/.hidden/b"), std::string(kRunBytesMax, 'x')}) {
    EXPECT_TRUE(ValidateRun(run).ok()) << run;
  }
  for (const std::string& run :
       {std::string(), std::string("/a"), std::string("a/"), std::string("a//b"), std::string("."),
        std::string(".."), std::string("a/../b"), std::string("a/./b"), std::string("a b"),
        std::string("a@b"), std::string("a\0b", 3), std::string("a\nb"), std::string("\xc3\xa9"),
        std::string("a\\b"), std::string("a:b"), std::string(kRunBytesMax + 1, 'x'),
        std::string(10000, 'x')}) {
    const absl::Status status = ValidateRun(run);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << run;
    EXPECT_LT(status.message().size(), 700u);
    EXPECT_TRUE(IsUtf8(status.message()));
    for (const char c : status.message()) EXPECT_FALSE(c >= 0 && c < 32) << "control characters";
  }
}

TEST(CheckpointIdTest, Steps) {
  EXPECT_TRUE(ValidateStep(0).ok());
  EXPECT_TRUE(ValidateStep(kStepMax).ok());
  EXPECT_FALSE(ValidateStep(kStepMax + 1).ok());
}

TEST(CheckpointIdTest, Tags) {
  for (const char* tag : {"best", "v1.0", "1e3", "-1", "latest2", "Latest"}) {
    EXPECT_TRUE(ValidateTag(tag).ok()) << tag;
  }
  for (const std::string& tag :
       {std::string(), std::string("12"), std::string("latest"), std::string("latest-valid"),
        std::string("a/b"), std::string("a b"), std::string(kTagBytesMax + 1, 't')}) {
    EXPECT_EQ(ValidateTag(tag).code(), absl::StatusCode::kInvalidArgument) << tag;
  }
}

TEST(CheckpointIdTest, ProtoRoundTrip) {
  const CheckpointId id = {"team/run", 1200, Incarnation::TimeOrdered()};
  EXPECT_EQ(CheckpointId::FromProto(id.ToProto()).value(), id);
  EXPECT_EQ(id.ToString(), "team/run@1200 (incarnation " + id.incarnation.hex().substr(0, 8) + ")");
  v1::CheckpointId bad = id.ToProto();
  bad.set_run("../x");
  EXPECT_FALSE(CheckpointId::FromProto(bad).ok());
  bad = id.ToProto();
  bad.set_step(uint64_t{1} << 63);
  EXPECT_FALSE(CheckpointId::FromProto(bad).ok());
  bad = id.ToProto();
  bad.clear_incarnation();
  EXPECT_FALSE(CheckpointId::FromProto(bad).ok());
}

TEST(CheckpointIdTest, SelectorsRoundTrip) {
  for (const char* text :
       {"team/a@0", "a@9223372036854775807", "a@latest", "a@latest-valid", "a@best"}) {
    const auto selector = ParseSelector(text);
    ASSERT_TRUE(selector.ok()) << selector.status();
    EXPECT_EQ(PrintSelector(*selector), text);
  }
  EXPECT_EQ(ParseSelector("a@007")->step(), 7u);
  EXPECT_EQ(ParseSelector("a@best")->tag(), "best");
  EXPECT_TRUE(ParseSelector("a@latest")->latest());
}

TEST(CheckpointIdTest, BadSelectorsSayWhatWasExpected) {
  for (const char* text : {"", "a", "a@", "@5", "a@b@5", "a@9223372036854775808", "a@-1 ", "a@x y",
                           "a@99999999999999999999999"}) {
    const auto selector = ParseSelector(text);
    EXPECT_EQ(selector.status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
  EXPECT_NE(ParseSelector("run").status().message().find("RUN@STEP"), absl::string_view::npos);
}

}  // namespace
}  // namespace ckpt
