// The trainer's text and reader: the same on every machine, and a reader that is sought to another
// one's position reads on as that one does.
#include "client/examples/text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace train_lm {
namespace {

constexpr int64_t kWindow = 33;

std::string Read(TextReader& reader) {
  return std::string(reinterpret_cast<const char*>(reader.NextWindow()), kWindow);
}

TEST(TextTest, IsMadeFromItsSeedAlone) {
  const std::string text = WriteText(1, 10000);
  EXPECT_EQ(text.size(), 10000u);
  EXPECT_EQ(text, WriteText(1, 10000));
  EXPECT_EQ(text.substr(0, 5000), WriteText(1, 5000));
  EXPECT_NE(text, WriteText(2, 10000));
}

TEST(TextReaderTest, GoesOnWhereAnotherOneStood) {
  const std::string text = WriteText(1, 4000);
  TextReader first(text, 1, 2, kWindow, 7);
  // 2000 bytes are 59 windows an epoch: positions in three epochs, their last windows among them.
  for (int steps : {0, 1, 58, 59, 60, 130}) {
    TextReader second(text, 1, 2, kWindow, 7);
    for (int i = 0; i < steps; ++i) Read(second);
    TextReader third(text, 1, 2, kWindow, 7);
    third.Seek(second.position());
    for (int i = 0; i < 100; ++i) ASSERT_EQ(Read(third), Read(second)) << steps << " + " << i;
  }
}

TEST(TextReaderTest, ReadsItsOwnSliceInANewOrderEachEpoch) {
  std::string text = WriteText(1, 4000);
  for (size_t i = 2000; i < 4000; ++i) text[i] = '#';  // the other rank's
  TextReader reader(text, 0, 2, kWindow, 7);
  std::vector<std::string> epochs[2];
  for (auto& epoch : epochs) {
    const int64_t number = &epoch - epochs;
    do {
      epoch.push_back(Read(reader));
      EXPECT_THAT(epoch.back(), ::testing::Not(::testing::HasSubstr("#")));
    } while (reader.position().epoch == number && reader.position().window < 59);
  }
  EXPECT_EQ(epochs[0].size(), 59u);
  EXPECT_NE(epochs[0], epochs[1]);
}

TEST(TextReaderTest, RanksReadDifferently) {
  const std::string text = WriteText(1, 4000);
  std::set<std::string> first_windows;
  for (int rank = 0; rank < 4; ++rank) {
    TextReader reader(text, rank, 4, kWindow, 7);
    first_windows.insert(Read(reader));
  }
  EXPECT_EQ(first_windows.size(), 4u);
}

}  // namespace
}  // namespace train_lm
