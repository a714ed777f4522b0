#include "common/key.h"

#include <gtest/gtest.h>

#include "common/limits.h"

namespace ckpt {
namespace {

TEST(KeyTest, PrintsSegmentsWithDots) {
  v1::Key key = MakeKey({"optimizer", "state"});
  key.add_segments()->set_number(-3);
  key.add_segments()->set_index(7);
  key.add_segments()->set_name("exp_avg");
  EXPECT_EQ(PrintKey(key), "optimizer.state.-3.7.exp_avg");
  EXPECT_TRUE(ValidateKey(key).ok());
}

TEST(KeyTest, OneStringIsTheSameKey) {
  for (const int64_t number : {int64_t{0}, int64_t{-1}, int64_t{77}, INT64_MIN, INT64_MAX}) {
    v1::Key proto = MakeKey({"", "a.b", std::string(300, 'k')});
    proto.add_segments()->set_number(number);
    proto.add_segments()->set_index(0);
    proto.add_segments()->set_index(UINT32_MAX);
    const Key key = proto;
    EXPECT_EQ(key.serialized(), proto.SerializeAsString()) << "Protobuf's own form";
    EXPECT_EQ(key.ToProto().SerializeAsString(), proto.SerializeAsString());
    EXPECT_EQ(PrintKey(key), PrintKey(proto));
    std::string printed = "before ";
    size_t top_level_bytes = 1;
    EXPECT_TRUE(internal::AppendPrintedKey(key.serialized(), printed, top_level_bytes).ok());
    EXPECT_EQ(printed, "before " + PrintKey(proto));
    EXPECT_EQ(top_level_bytes, 0u) << "the first segment is empty";
    EXPECT_EQ(key, Key(proto));
    proto.mutable_segments(1)->set_name("a");
    EXPECT_NE(key, Key(proto));
  }
  EXPECT_TRUE(Key(v1::Key()).empty());
  std::string printed;
  size_t top_level_bytes = 0;
  ASSERT_TRUE(internal::AppendPrintedKey(Key(MakeKey({"a.b"})).serialized(), printed,
                                         top_level_bytes)
                  .ok());
  EXPECT_EQ(top_level_bytes, 3u);
}

TEST(KeyTest, RefusesBadKeys) {
  EXPECT_FALSE(ValidateKey(v1::Key()).ok());
  v1::Key key = MakeKey({"a"});
  key.add_segments();
  EXPECT_FALSE(ValidateKey(key).ok()) << "a segment without a kind";
  key = MakeKey({"\xff"});
  EXPECT_FALSE(ValidateKey(key).ok()) << "not UTF-8";
  EXPECT_FALSE(ValidateKey(MakeKey({"\xc0\x80"})).ok()) << "overlong";
  EXPECT_FALSE(ValidateKey(MakeKey({"\xed\xa0\x80"})).ok()) << "surrogate";
  EXPECT_TRUE(ValidateKey(MakeKey({"\xf0\x9f\x92\xbe \xc3\xa9"})).ok());
  EXPECT_TRUE(ValidateKey(MakeKey({std::string(kKeyBytesMax, 'k')})).ok());
  EXPECT_FALSE(ValidateKey(MakeKey({std::string(kKeyBytesMax + 1, 'k')})).ok());
  key.Clear();
  for (size_t i = 0; i < kKeySegmentsMax; ++i) key.add_segments()->set_index(1);
  EXPECT_TRUE(ValidateKey(key).ok());
  key.add_segments()->set_index(1);
  EXPECT_FALSE(ValidateKey(key).ok());
}

}  // namespace
}  // namespace ckpt
