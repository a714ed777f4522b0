#include "common/filter.h"

#include <gtest/gtest.h>

#include <functional>

#include "common/key.h"
#include "common/limits.h"

namespace ckpt {
namespace {

TEST(FilterTest, Globs) {
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

// Against the obvious recursive matcher, on short random strings.
TEST(FilterTest, AgreesWithARecursiveMatcher) {
  std::function<bool(absl::string_view, absl::string_view)> plain =
      [&](absl::string_view glob, absl::string_view key) -> bool {
    if (glob.empty()) return key.empty();
    if (glob.substr(0, 2) == "**") {
      for (size_t i = 0; i <= key.size(); ++i) {
        if (plain(glob.substr(2), key.substr(i))) return true;
      }
      return false;
    }
    if (glob[0] == '*') {
      for (size_t i = 0; i <= key.size(); ++i) {
        if (plain(glob.substr(1), key.substr(i))) return true;
        if (i < key.size() && key[i] == '.') break;
      }
      return false;
    }
    return !key.empty() && (glob[0] == '?' || glob[0] == key[0]) &&
           plain(glob.substr(1), key.substr(1));
  };
  uint32_t state = 1;
  auto text = [&](absl::string_view alphabet, size_t length_max) {
    std::string out;
    state = state * 1664525 + 1013904223;
    const size_t length = (state >> 16) % (length_max + 1);
    for (size_t i = 0; i < length; ++i) {
      state = state * 1664525 + 1013904223;
      out.push_back(alphabet[(state >> 16) % alphabet.size()]);
    }
    return out;
  };
  for (int i = 0; i < 30000; ++i) {
    const std::string glob = text("ab.*?*", 7), key = text("ab.", 8);
    ASSERT_EQ(GlobMatches(glob, key), plain(glob, key)) << glob << " " << key;
  }
}

// A backtracking matcher would not come back.
TEST(FilterTest, ManyStarsAreLinear) {
  std::string glob;
  for (int i = 0; i < 100; ++i) glob += "**a";
  EXPECT_FALSE(GlobMatches(glob + "b", std::string(2000, 'a')));
  EXPECT_TRUE(GlobMatches(glob, std::string(2000, 'a')));
}

v1::Selection Include(std::initializer_list<const char*> patterns) {
  v1::Selection selection;
  for (const char* pattern : patterns) selection.add_include(pattern);
  return selection;
}

TEST(FilterTest, IncludeExcludeAndExactKeys) {
  KeyFilter all = KeyFilter::FromSelection({}).value();
  EXPECT_TRUE(all.everything());
  EXPECT_TRUE(all.Matches("x"));

  v1::Selection selection = Include({"model.**"});
  selection.add_exclude("**.bias");
  *selection.add_keys() = MakeKey({"step"});
  *selection.add_keys() = MakeKey({"a*b"});
  KeyFilter filter = KeyFilter::FromSelection(selection).value();
  EXPECT_FALSE(filter.everything());
  EXPECT_TRUE(filter.Matches("model.a.weight"));
  EXPECT_FALSE(filter.Matches("model.a.bias"));
  EXPECT_TRUE(filter.Matches("step"));
  EXPECT_TRUE(filter.Matches("a*b"));
  EXPECT_FALSE(filter.Matches("axb")) << "exact keys are no patterns";
  EXPECT_EQ(filter.exact_keys(), (std::vector<std::string>{"a*b", "step"}));

  v1::Selection exact;
  *exact.add_keys() = MakeKey({"step"});
  EXPECT_FALSE(KeyFilter::FromSelection(exact)->Matches("other"));
  v1::Selection exclude;
  exclude.add_exclude("a");
  EXPECT_FALSE(KeyFilter::FromSelection(exclude)->Matches("a"));
  EXPECT_TRUE(KeyFilter::FromSelection(exclude)->Matches("b"));
}

TEST(FilterTest, RefusesBadPatterns) {
  EXPECT_FALSE(KeyFilter::FromSelection(Include({""})).ok());
  EXPECT_FALSE(KeyFilter::FromSelection(Include({"abc\\"})).ok());
  EXPECT_TRUE(KeyFilter::FromSelection(Include({"abc\\\\"})).ok());
  v1::Selection selection;
  selection.add_exclude(std::string(kKeyBytesMax + 1, 'a'));
  EXPECT_FALSE(KeyFilter::FromSelection(selection).ok());
  v1::Selection bad_key;
  bad_key.add_keys();
  EXPECT_FALSE(KeyFilter::FromSelection(bad_key).ok());
  v1::Selection bad_slice;
  bad_slice.add_slices();
  EXPECT_FALSE(KeyFilter::FromSelection(bad_slice).ok());
}

}  // namespace
}  // namespace ckpt
