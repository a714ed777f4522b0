// Headers of files that somebody else made: good ones, odd ones and hostile ones.
#include <gtest/gtest.h>

#include <random>

#include "common/limits.h"
#include "common/safetensors.h"

namespace ckpt {
namespace {

std::string Region(const std::string& json) {
  std::string region(8, '\0');
  const uint64_t length = json.size();
  memcpy(region.data(), &length, 8);
  return region + json;
}

absl::StatusOr<SafetensorsHeader> Parse(const std::string& json, uint64_t data_bytes) {
  const std::string region = Region(json);
  return ParseSafetensorsHeader(region, region.size() + data_bytes);
}

TEST(SafetensorsParseTest, ReadsInAnyOrder) {
  const auto header = Parse(
      R"({"late":{"shape":[2,2],"data_offsets":[4,12],"dtype":"F16"},"__metadata__":{"format":"pt"},
          "early":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},
          "none":{"dtype":"F32","shape":[0,7],"data_offsets":[4,4]},
          "caf\u00e9":{"dtype":"I64","shape":[],"data_offsets":[12,20]}}   )",
      20);
  ASSERT_TRUE(header.ok()) << header.status();
  std::vector<std::string> names;
  for (const SafetensorsTensor& tensor : header->tensors) names.push_back(tensor.name);
  EXPECT_EQ(names, (std::vector<std::string>{"early", "none", "late", "caf\xc3\xa9"}));
  EXPECT_EQ(header->metadata.at("format"), "pt");
  EXPECT_EQ(header->tensors[2].dtype, v1::DTYPE_F16);
  EXPECT_EQ(header->tensors[2].shape, (Extents{2, 2}));
}

struct Bad {
  const char* json;
  uint64_t data_bytes;
  const char* expected;
};

TEST(SafetensorsParseTest, RefusesWithTheReason) {
  const Bad cases[] = {
      {"", 0, "begin with '{'"},
      {" {}", 0, "begin with '{'"},
      {"[]", 0, "begin with '{'"},
      {"{", 0, "no valid JSON"},
      {"{}{}", 0, "no valid JSON"},
      {"{}x", 0, "no valid JSON"},
      {"{\"a\":}", 0, "no valid JSON"},
      {"{} // note", 0, "no valid JSON"},
      {"{\"\xff\":1}", 0, "no valid JSON"},
      {"{}", 1, "end at 0"},
      {R"({"a":1})", 0, "'a'"},
      {R"({"a":null})", 0, "null"},
      {R"({"a":[]})", 0, "a list"},
      {R"({"a":{"x":{}}})", 0, "unknown field"},
      {R"({"a":{"dtype":{}}})", 0, "an object"},
      {R"({"a":{"dtype":"F32","shape":[[1]],"data_offsets":[0,4]}})", 4, "a list"},
      {R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4, "negative"},
      {R"({"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}})", 4, "no unsigned"},
      {R"({"a":{"dtype":"F32","shape":[1e2],"data_offsets":[0,4]}})", 4, "no unsigned"},
      {R"({"a":{"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,4]}})", 4,
       "no unsigned"},
      {R"({"a":{"dtype":"F32","shape":["1"],"data_offsets":[0,4]}})", 4, "a string"},
      {R"({"a":{"dtype":"F32","shape":1,"data_offsets":[0,4]}})", 4, "a number"},
      {R"({"a":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}})", 4,
       "tensor 'a' is of dtype 'F33', which is not supported"},
      {R"({"a":{"dtype":7,"shape":[1],"data_offsets":[0,4]}})", 4, "a number"},
      {R"({"a":{"shape":[1],"data_offsets":[0,4]}})", 4, "no dtype"},
      {R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", 4, "no shape"},
      {R"({"a":{"dtype":"F32","shape":[1]}})", 4, "no data_offsets"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", 4, "two numbers"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}})", 4, "two numbers"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[]}})", 4, "two numbers"},
      {R"({"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4, "twice"},
      {R"({"a":{"dtype":"F32","shape":[],"shape":[1],"data_offsets":[0,4]}})", 4, "twice"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
       R"("a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
       2, "twice"},
      {R"({"__metadata__":{},"__metadata__":{}})", 0, "twice"},
      {R"({"__metadata__":{"x":"1","x":"2"}})", 0, "twice"},
      {R"({"__metadata__":{"x":1}})", 0, "a number"},
      {R"({"__metadata__":{"x":{}}})", 0, "an object"},
      {R"({"__metadata__":"x"})", 0, "a string"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 3, "truncated"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4, "shape needs 8"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4, "not within"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8, "hole"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
       R"("b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
       3, "overlaps"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
       R"("b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})",
       2, "overlaps"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 2, "end at 1"},
      {R"({"a":{"dtype":"F64","shape":[4611686018427387904,4611686018427387904],)"
       R"("data_offsets":[0,0]}})",
       0, "too large"},
      {R"({"a":{"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]}})", 0,
       "too large"},
      {R"({"a":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}})",
       1, "dimensions"},
  };
  for (const Bad& bad : cases) {
    const auto header = Parse(bad.json, bad.data_bytes);
    ASSERT_EQ(header.status().code(), absl::StatusCode::kInvalidArgument) << bad.json;
    EXPECT_NE(header.status().message().find(bad.expected), absl::string_view::npos)
        << bad.json << "\n"
        << header.status();
  }
}

TEST(SafetensorsParseTest, DepthAndSizeAreBounded) {
  std::string deep = "{\"a\":";
  for (int i = 0; i < 1000000; ++i) deep += "[";
  EXPECT_FALSE(Parse(deep, 0).ok());
  std::string objects;
  for (int i = 0; i < 1000000; ++i) objects += "{\"a\":";
  EXPECT_FALSE(Parse(objects, 0).ok());
  EXPECT_FALSE(Parse(std::string("{}\0{}", 5), 0).ok()) << "a NUL is no end";
}

TEST(SafetensorsParseTest, LengthPrefix) {
  auto region = [](uint64_t length, uint64_t file_bytes) {
    std::string prefix(8, '\0');
    memcpy(prefix.data(), &length, 8);
    return SafetensorsRegionBytes(prefix, file_bytes);
  };
  EXPECT_EQ(region(100, 108).value(), 108u);
  EXPECT_FALSE(region(100, 107).ok());
  EXPECT_FALSE(region(UINT64_MAX, UINT64_MAX).ok());
  EXPECT_FALSE(region(UINT64_MAX - 7, 100).ok());
  EXPECT_FALSE(region(kHeaderBytesMax * 4, UINT64_MAX).ok());
  EXPECT_FALSE(SafetensorsRegionBytes("1234567", 100).ok());
  EXPECT_FALSE(SafetensorsRegionBytes("", 0).ok());
  // Less than the header was read.
  EXPECT_FALSE(ParseSafetensorsHeader(Region("{}").substr(0, 9), 100).ok());
}

TEST(SafetensorsParseTest, RandomDamageNeverCrashes) {
  const std::string good =
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
      R"("b":{"dtype":"U8","shape":[],"data_offsets":[24,25]}})";
  ASSERT_TRUE(Parse(good, 25).ok());
  std::mt19937_64 random(1);
  for (int i = 0; i < 30000; ++i) {
    std::string json = good;
    for (size_t e = random() % 3 + 1; e > 0 && !json.empty(); --e) {
      const size_t at = random() % json.size();
      switch (random() % 3) {
        case 0:
          json[at] = static_cast<char>(random());
          break;
        case 1:
          json.erase(at, random() % 8 + 1);
          break;
        default:
          json.insert(at, json.substr(random() % json.size(), random() % 12));
      }
    }
    const auto header = Parse(json, 25);
    if (!header.ok()) continue;
    uint64_t at = 0;
    for (const SafetensorsTensor& tensor : header->tensors) {
      ASSERT_EQ(tensor.begin, at) << json;
      at = tensor.end;
    }
    ASSERT_EQ(at, 25u);
  }
}

}  // namespace
}  // namespace ckpt
