#include "common/json_text.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>

#include "common/utf8.h"

namespace ckpt {
namespace {

std::string Json(absl::string_view text) {
  std::string out;
  AppendJsonString(text, out);
  return out;
}

TEST(JsonTextTest, StringsReadBack) {
  std::string all;
  for (int c = 0; c < 128; ++c) all.push_back(static_cast<char>(c));
  for (const std::string& text :
       {std::string(), all, std::string("\xc3\xa9\xe2\x82\xac\xf0\x9f\x92\xbe")}) {
    EXPECT_EQ(nlohmann::json::parse(Json(text)).get<std::string>(), text);
    EXPECT_EQ(JsonStringBytes(text) + 2, Json(text).size());
  }
}

TEST(JsonTextTest, WhatIsNoUtf8BecomesReplacementCharacters) {
  EXPECT_EQ(Json("a\xff"
                 "b"),
            "\"a\xef\xbf\xbd"
            "b\"");
  EXPECT_EQ(Json("\xe2\x82"), "\"\xef\xbf\xbd\xef\xbf\xbd\"");
  std::mt19937_64 random(1);
  for (int i = 0; i < 2000; ++i) {
    std::string bytes(random() % 20, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    const std::string json = Json(bytes);
    ASSERT_TRUE(nlohmann::json::accept(json));
    ASSERT_TRUE(IsUtf8(json));
    if (IsUtf8(bytes)) {
      ASSERT_EQ(nlohmann::json::parse(json).get<std::string>(), bytes);
    }
    ASSERT_EQ(JsonStringBytes(bytes) + 2, json.size());
  }
}

TEST(JsonTextTest, DoublesReadBackExactly) {
  std::mt19937_64 random(2);
  for (int i = 0; i < 20000; ++i) {
    const uint64_t bits = random();
    double number;
    memcpy(&number, &bits, 8);
    if (!std::isfinite(number)) continue;
    std::string out;
    AppendJsonDouble(number, out);
    ASSERT_EQ(nlohmann::json::parse(out).get<double>(), number) << out;
    ASSERT_TRUE(nlohmann::json::parse(out).is_number_float()) << out;
  }
  auto print = [](double number) {
    std::string out;
    AppendJsonDouble(number, out);
    return out;
  };
  EXPECT_EQ(print(1), "1.0");
  EXPECT_EQ(print(0.1), "0.1");
  EXPECT_EQ(print(1e300), "1e+300");
  EXPECT_EQ(print(-0.0), "-0.0");
  EXPECT_EQ(print(NAN), "\"NaN\"");
  EXPECT_EQ(print(-INFINITY), "\"-Infinity\"");
}

TEST(JsonTextTest, Numbers) {
  std::string out;
  AppendJsonNumbers({0, 7, UINT64_MAX}, out);
  AppendJsonNumbers({}, out);
  EXPECT_EQ(out, "[0,7,18446744073709551615][]");
}

}  // namespace
}  // namespace ckpt
