#include "common/glob.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/utf8.h"

namespace ckpt {
namespace {

TEST(GlobTest, MatchesKeys) {
  struct Case {
    const char* glob;
    const char* key;
    bool matches;
  };
  const Case cases[] = {
      {"model.weight", "model.weight", true},
      {"model.weight", "model.weights", false},
      {"model.*", "model.weight", true},
      {"model.*", "model.a.weight", false},
      {"model.**", "model.a.weight", true},
      {"model.**", "model.", true},
      {"**.weight", "model.a.weight", true},
      {"**", "", true},
      {"**", "anything.at.all", true},
      {"*", "", true},
      {"*", "a.b", false},
      {"*.*", "a.b", true},
      {"model.layers.?.weight", "model.layers.3.weight", true},
      {"model.layers.?.weight", "model.layers.12.weight", false},
      {"?", "\xc3\xa9", true},
      {"?", ".", true},
      {"a\\*b", "a*b", true},
      {"a\\*b", "axb", false},
      {"a\\\\b", "a\\b", true},
      {"***", "a.b", true},
      {"**.*.bias", "m.x.bias", true},
      {"m*l.**t", "model.a.b.weight", true},
      {"", "", true},
      {"", "a", false},
  };
  for (const Case& c : cases)
    EXPECT_EQ(GlobMatches(c.glob, c.key), c.matches) << c.glob << " " << c.key;
}

// The obvious matcher: which beginnings of the glob match which beginnings of the key.
bool PlainMatches(absl::string_view glob, absl::string_view key) {
  std::vector<std::string> pattern;
  while (!glob.empty()) {
    const bool any = glob.substr(0, 2) == "**";
    pattern.emplace_back(glob.substr(0, any ? 2 : Utf8CharacterBytes(glob)));
    glob.remove_prefix(pattern.back().size());
  }
  std::vector<std::string> text;
  while (!key.empty()) {
    text.emplace_back(key.substr(0, Utf8CharacterBytes(key)));
    key.remove_prefix(text.back().size());
  }
  std::vector<std::vector<bool>> matches(pattern.size() + 1,
                                         std::vector<bool>(text.size() + 1, false));
  matches[0][0] = true;
  for (size_t p = 1; p <= pattern.size(); ++p) {
    for (size_t t = 0; t <= text.size(); ++t) {
      const std::string& token = pattern[p - 1];
      if (token[0] == '*') {
        const bool goes_on = t > 0 && matches[p][t - 1] && (token == "**" || text[t - 1] != ".");
        matches[p][t] = matches[p - 1][t] || goes_on;
      } else {
        matches[p][t] = t > 0 && matches[p - 1][t - 1] && (token == "?" || token == text[t - 1]);
      }
    }
  }
  return matches[pattern.size()][text.size()];
}

class RandomText {
 public:
  std::string Of(const std::vector<std::string>& alphabet, size_t characters_max) {
    std::string out;
    const size_t characters = Next() % (characters_max + 1);
    for (size_t i = 0; i < characters; ++i) out += alphabet[Next() % alphabet.size()];
    return out;
  }

 private:
  uint32_t Next() {
    state_ = state_ * 1664525 + 1013904223;
    return state_ >> 16;
  }
  uint32_t state_ = 1;
};

TEST(GlobTest, AgreesWithAPlainMatcher) {
  RandomText random;
  size_t matched = 0;
  for (int i = 0; i < 30000; ++i) {
    const std::string glob = random.Of({"a", "b", "\xc3\xa9", ".", "*", "?", "*"}, 8);
    const std::string key = random.Of({"a", "b", "\xc3\xa9", "\xe2\x82\xac", "."}, 8);
    ASSERT_EQ(GlobMatches(glob, key), PlainMatches(glob, key)) << glob << " " << key;
    matched += GlobMatches(glob, key) ? 1 : 0;
  }
  EXPECT_GT(matched, 500u);
}

// Past 64 places the automaton has several words; between them bits are carried.
TEST(GlobTest, LongPatternsAgreeWithAPlainMatcher) {
  RandomText random;
  size_t matched = 0;
  for (int i = 0; i < 2000; ++i) {
    const std::string beginning = random.Of({"a", "b", "."}, 150);
    std::string glob = "?";
    for (const char c : beginning) {
      // Now and then a wildcard in the place of what it may stand for.
      const std::string choice = random.Of({"", "", "", "?", "**"}, 1);
      glob += choice.empty() ? std::string(1, c) : choice;
    }
    glob += random.Of({"*", "a", "?"}, 2);
    const std::string key = absl::StrCat("x", beginning, random.Of({"a", "."}, 2));
    ASSERT_EQ(GlobMatches(glob, key), PlainMatches(glob, key)) << glob << " " << key;
    matched += GlobMatches(glob, key) ? 1 : 0;
  }
  EXPECT_GT(matched, 250u);
}

// A backtracking matcher would not come back.
TEST(GlobTest, ManyStarsAreLinear) {
  std::string glob;
  for (int i = 0; i < 100; ++i) glob += "**a";
  EXPECT_FALSE(GlobMatches(glob + "b", std::string(2000, 'a')));
  EXPECT_TRUE(GlobMatches(glob, std::string(2000, 'a')));
}

TEST(GlobTest, ALiteralOneMatchesItsTextAlone) {
  for (const std::string text : {"a.b", "a.*.b", "what?", "\\", "**", ""}) {
    EXPECT_TRUE(GlobMatches(LiteralGlob(text), text)) << text;
    EXPECT_FALSE(GlobMatches(LiteralGlob(text), text + "x")) << text;
  }
  EXPECT_FALSE(GlobMatches(LiteralGlob("a.*"), "a.b"));
  EXPECT_FALSE(GlobMatches(LiteralGlob("?"), "b"));
}

TEST(GlobTest, PrefixIsWhatStandsBeforeTheFirstWildcard) {
  EXPECT_EQ(Glob("model.layers.*.weight").prefix(), "model.layers.");
  EXPECT_EQ(Glob("a\\*b.**").prefix(), "a*b.");
  EXPECT_EQ(Glob("**.bias").prefix(), "");
  EXPECT_EQ(Glob("step").prefix(), "step");
}

TEST(GlobTest, BeginningAndEndMayNotOverlap) {
  EXPECT_FALSE(GlobMatches("model.**.model", "model."));
  EXPECT_FALSE(GlobMatches("aba**ba", "aba"));
  EXPECT_TRUE(GlobMatches("aba**ba", "ababa"));
}

}  // namespace
}  // namespace ckpt
