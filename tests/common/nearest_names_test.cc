#include "common/nearest_names.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace ckpt {
namespace {

TEST(NearestNames, ComeNearestFirst) {
  const std::vector<std::string> names = {"model.layers.0.weight", "model.layers.1.weight",
                                          "model.layer.0.weight", "optimizer.step", "model.bias"};
  EXPECT_EQ(NearestNames("model.layer.0.weigt", names, 2),
            (std::vector<std::string>{"model.layer.0.weight", "model.layers.0.weight"}));
  EXPECT_EQ(NearestNames("optimizer.stp", names, 5), (std::vector<std::string>{"optimizer.step"}));
  EXPECT_TRUE(NearestNames("xyz", names, 5).empty());
  EXPECT_TRUE(NearestNames("", names, 5).empty());
}

// The banded distance against the whole table.
TEST(NearestNames, AgreesWithPlainEditDistance) {
  auto distance = [](const std::string& a, const std::string& b) {
    std::vector<std::vector<size_t>> table(a.size() + 1, std::vector<size_t>(b.size() + 1));
    for (size_t i = 0; i <= a.size(); ++i) {
      for (size_t j = 0; j <= b.size(); ++j) {
        if (i == 0 || j == 0) {
          table[i][j] = i + j;
        } else {
          table[i][j] = std::min({table[i - 1][j] + 1, table[i][j - 1] + 1,
                                  table[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
        }
      }
    }
    return table[a.size()][b.size()];
  };
  uint32_t state = 12345;
  auto word = [&] {
    std::string text;
    state = state * 1664525 + 1013904223;
    const size_t length = 1 + (state >> 16) % 12;
    for (size_t i = 0; i < length; ++i) {
      state = state * 1664525 + 1013904223;
      text.push_back(static_cast<char>('a' + (state >> 20) % 3));
    }
    return text;
  };
  for (int i = 0; i < 3000; ++i) {
    const std::string a = word(), b = word();
    const bool near = !NearestNames(a, {b}, 1).empty();
    ASSERT_EQ(near, distance(a, b) <= a.size() / 3) << a << " " << b;
  }
}

// In whatever order they come, and however often: what is kept is what a sorted list would have.
TEST(NearestNames, ASearchKeepsTheNearestOfAllThatComeBy) {
  const std::string wanted = "model.layers.1234.weight";
  NearestSearch forwards(wanted, 3);
  NearestSearch backwards(wanted, 3);
  const auto name = [](int i) { return absl::StrCat("model.layers.", i, ".weight"); };
  for (int i = 0; i < 5000; ++i) {
    if (i != 1234) forwards.Add(name(i));
    if (4999 - i != 1234) backwards.Add(name(4999 - i));
    forwards.Add("model.layers.4321.wieght");
  }
  // All at distance 1: in their order.
  EXPECT_EQ(forwards.Names(), (std::vector<std::string>{name(1034), name(1134), name(1204)}));
  EXPECT_EQ(forwards.Names(), backwards.Names());
  EXPECT_TRUE(NearestNames(wanted, {wanted}, 0).empty());
}

}  // namespace
}  // namespace ckpt
