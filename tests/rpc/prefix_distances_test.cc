#include "server/rpc/prefix_distances.h"

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace ckpt {
namespace {

size_t PlainDistance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = std::min({diagonal + (a[i - 1] == b[j - 1] ? 0 : 1), above + 1, row[j - 1] + 1});
      diagonal = above;
    }
  }
  return row[b.size()];
}

// Walks a sorted list as a search does; what it stops at, and in how many steps.
std::set<std::string> StoppedAt(const std::set<std::string>& names, const std::string& name,
                                size_t edits, size_t& steps) {
  PrefixDistances distances(name, edits);
  std::set<std::string> stopped;
  for (auto at = names.begin(); at != names.end(); ++steps) {
    if (const auto behind = distances.SkipFrom(*at)) {
      EXPECT_GT(*behind, *at);
      at = names.lower_bound(*behind);
    } else {
      stopped.insert(*at++);
    }
  }
  return stopped;
}

TEST(PrefixDistances, NothingNearIsPassedOver) {
  uint32_t state = 99;
  const auto word = [&](size_t letters) {
    std::string text;
    state = state * 1664525 + 1013904223;
    const size_t length = (state >> 16) % 9;
    for (size_t i = 0; i < length; ++i) {
      state = state * 1664525 + 1013904223;
      text.push_back(static_cast<char>('a' + (state >> 20) % letters));
    }
    return text;
  };
  for (const size_t letters : {2, 4, 20}) {
    std::set<std::string> names;
    for (int i = 0; i < 300; ++i) names.insert(word(letters));
    for (int round = 0; round < 60; ++round) {
      const std::string name = word(letters);
      for (size_t edits = 0; edits <= PrefixDistances::kEditsMax; ++edits) {
        size_t steps = 0;
        const std::set<std::string> stopped = StoppedAt(names, name, edits, steps);
        for (const std::string& one : names) {
          if (PlainDistance(name, one) > edits) continue;
          ASSERT_TRUE(stopped.contains(one)) << one << " is near to " << name << ", " << edits;
        }
      }
    }
  }
}

// Names of all lengths and bytes, as UTF-8 has them.
TEST(PrefixDistances, TheEndsOfNamesAreNoTrap) {
  const std::set<std::string> names = {"", "a", "ab", "abc", "abcdef", "\xC3\xA9", "\xC3\xA8z"};
  size_t steps = 0;
  EXPECT_TRUE(StoppedAt(names, "", 2, steps).contains("ab"));
  EXPECT_FALSE(StoppedAt(names, "", 2, steps).contains("abc"));
  EXPECT_TRUE(StoppedAt(names, "\xC3\xA8", 1, steps).contains("\xC3\xA9"));
  EXPECT_TRUE(StoppedAt(names, "\xC3\xA9z", 1, steps).contains("\xC3\xA8z"));
  EXPECT_FALSE(StoppedAt(names, "abcd", 1, steps).contains("abcdef"));
  EXPECT_TRUE(StoppedAt(names, "abcd", 2, steps).contains("abcdef"));
}

TEST(PrefixDistances, AHundredThousandNamesAreSearchedInFewSteps) {
  std::set<std::string> names;
  for (int i = 0; i < 100'000; ++i) {
    names.insert(absl::StrCat("model.layers.", i / 1000, ".block.", i % 1000, ".weight"));
  }
  size_t steps = 0;
  EXPECT_LE(StoppedAt(names, "model.layers.77.block.987.weigth", 1, steps).size(), 1u);
  EXPECT_LT(steps, 500u);
  steps = 0;
  const std::set<std::string> stopped =
      StoppedAt(names, "model.layers.77.block.987.weigth", 2, steps);
  EXPECT_TRUE(stopped.contains("model.layers.77.block.987.weight"));
  EXPECT_LT(stopped.size(), 50u);
  EXPECT_LT(steps, 10'000u);
}

}  // namespace
}  // namespace ckpt
