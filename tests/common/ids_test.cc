#include "common/ids.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <set>
#include <thread>
#include <vector>

namespace ckpt {
namespace {

TEST(IdsTest, TimeOrderedIdsAscendStrictly) {
  Incarnation last;
  for (int i = 0; i < 20000; ++i) {
    const Incarnation next = Incarnation::TimeOrdered();
    ASSERT_LT(last, next);
    ASSERT_LT(last.bytes(), next.bytes()) << "the order of bytes is the order of ids";
    last = next;
  }
}

TEST(IdsTest, TimeOrderedIdsAreUuid7) {
  const std::string bytes = Incarnation::TimeOrdered().bytes();
  EXPECT_EQ(static_cast<unsigned char>(bytes[6]) >> 4, 7);
  EXPECT_EQ(static_cast<unsigned char>(bytes[8]) >> 6, 2);
  uint64_t milliseconds = 0;
  for (int i = 0; i < 6; ++i)
    milliseconds = milliseconds << 8 | static_cast<unsigned char>(bytes[i]);
  EXPECT_NEAR(static_cast<double>(milliseconds) / 1000, static_cast<double>(time(nullptr)), 100);
}

TEST(IdsTest, IdsOfManyThreadsDiffer) {
  std::vector<std::vector<FileId>> made(4);
  std::vector<std::thread> threads;
  for (auto& list : made) {
    threads.emplace_back([&list] {
      for (int i = 0; i < 5000; ++i) {
        list.push_back(i % 2 == 0 ? FileId::Random() : FileId::TimeOrdered());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::set<FileId> all;
  for (const auto& list : made) all.insert(list.begin(), list.end());
  EXPECT_EQ(all.size(), 20000u);
}

TEST(IdsTest, AForkedChildMakesOthers) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const pid_t child = fork();
  if (child == 0) {
    std::string bytes = FileId::TimeOrdered().bytes() + FileId::Random().bytes();
    _exit(write(ends[1], bytes.data(), bytes.size()) == 32 ? 0 : 1);
  }
  const std::string mine = FileId::TimeOrdered().bytes() + FileId::Random().bytes();
  std::string theirs(32, '\0');
  ASSERT_EQ(read(ends[0], theirs.data(), 32), 32);
  waitpid(child, nullptr, 0);
  close(ends[0]);
  close(ends[1]);
  EXPECT_NE(mine.substr(0, 16), theirs.substr(0, 16));
  EXPECT_NE(mine.substr(16), theirs.substr(16));
}

TEST(IdsTest, BytesAndHexRoundTrip) {
  const PlanId id = PlanId::Random();
  EXPECT_EQ(PlanId::FromBytes(id.bytes(), "plan").value(), id);
  EXPECT_EQ(PlanId::FromHex(id.hex(), "plan").value(), id);
  EXPECT_FALSE(id.none());
  EXPECT_TRUE(PlanId().none());
  EXPECT_EQ(PlanId::FromHex("000102030405060708090a0b0c0d0e0f", "plan")->hex(),
            "000102030405060708090a0b0c0d0e0f");
}

TEST(IdsTest, RefusesOtherBytesAndNamesTheField) {
  for (const std::string& bytes :
       {std::string(), std::string(15, 'x'), std::string(17, 'x'), std::string(16, '\0')}) {
    const auto id = SessionToken::FromBytes(bytes, "session token");
    EXPECT_EQ(id.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(id.status().message().find("session token"), absl::string_view::npos);
  }
  for (const char* hex :
       {"", "00", "000102030405060708090A0B0C0D0E0F", "000102030405060708090a0b0c0d0e0g",
        "000102030405060708090a0b0c0d0e0f0"}) {
    EXPECT_FALSE(FileId::FromHex(hex, "file").ok()) << hex;
  }
}

}  // namespace
}  // namespace ckpt
