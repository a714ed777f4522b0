#include "common/utf8.h"

#include <gtest/gtest.h>

#include "common/quoted.h"

namespace ckpt {
namespace {

// Every code point encodes to something that is accepted, as one character.
TEST(Utf8Test, AcceptsEveryCodePoint) {
  for (uint32_t c = 0; c <= 0x10ffff; ++c) {
    std::string text;
    if (c < 0x80) {
      text = {static_cast<char>(c)};
    } else if (c < 0x800) {
      text = {static_cast<char>(0xc0 | c >> 6), static_cast<char>(0x80 | (c & 0x3f))};
    } else if (c < 0x10000) {
      text = {static_cast<char>(0xe0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 0x3f)),
              static_cast<char>(0x80 | (c & 0x3f))};
    } else {
      text = {static_cast<char>(0xf0 | c >> 18), static_cast<char>(0x80 | (c >> 12 & 0x3f)),
              static_cast<char>(0x80 | (c >> 6 & 0x3f)), static_cast<char>(0x80 | (c & 0x3f))};
    }
    const bool surrogate = c >= 0xd800 && c < 0xe000;
    ASSERT_EQ(Utf8CharacterBytes(text), surrogate ? 0 : text.size()) << c;
  }
}

TEST(Utf8Test, RefusesWhatIsNotWellFormed) {
  for (const char* text :
       {"\x80", "\xc0\xaf", "\xc1\xbf", "\xe0\x80\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80",
        "\xf5\x80\x80\x80", "\xc3", "\xe2\x82", "\xf0\x9f\x92", "a\xff", "\xfe"}) {
    EXPECT_FALSE(IsUtf8(text));
  }
  EXPECT_TRUE(IsUtf8(""));
  EXPECT_TRUE(IsUtf8(absl::string_view("\0", 1)));
}

TEST(QuotedTest, IsShortAndPrintable) {
  EXPECT_EQ(Quoted("model.weight"), "'model.weight'");
  EXPECT_EQ(Quoted(absl::string_view("a\0b\n", 4)), "'a\\000b\\n'");
  EXPECT_EQ(Quoted("\xc3\xa9"), "'\xc3\xa9'");
  EXPECT_TRUE(IsUtf8(Quoted("\xff\xfe")));
  std::string long_name;
  for (int i = 0; i < 5000; ++i) long_name += "\xc3\xa9";
  for (size_t shift = 0; shift < 3; ++shift) {
    const std::string quoted = Quoted(std::string(shift, 'x') + long_name);
    EXPECT_LT(quoted.size(), 500u);
    EXPECT_TRUE(IsUtf8(quoted)) << "no character is cut in two";
    EXPECT_NE(quoted.find("bytes"), std::string::npos);
  }
}

}  // namespace
}  // namespace ckpt
