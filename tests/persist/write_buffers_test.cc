#include "server/persist/write_buffers.h"

#include <atomic>
#include <set>
#include <thread>

#include "gtest/gtest.h"

namespace ckpt {
namespace {

constexpr size_t kBytes = 8192;

TEST(WriteBuffers, AreAlignedAndRecycled) {
  WriteBuffers buffers(kBytes, 4 * kBytes, 4);
  WriteBuffers::Holder part;
  std::set<char*> seen;
  for (int i = 0; i < 100; ++i) {
    char* buffer = buffers.Take(part);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer) % 4096, 0u);
    seen.insert(buffer);
    buffers.GiveBack(part, buffer);
  }
  EXPECT_EQ(seen.size(), 1u);
}

TEST(WriteBuffers, APartThatHoldsOneWaitsForAnotherToComeBack) {
  WriteBuffers buffers(kBytes, 2 * kBytes, 9);
  WriteBuffers::Holder part;
  char* first = buffers.Take(part);
  char* second = buffers.Take(part);
  std::atomic<bool> given_back = false;
  char* third = nullptr;
  std::thread taker([&] {
    third = buffers.Take(part);
    EXPECT_TRUE(given_back);
  });
  given_back = true;
  buffers.GiveBack(part, first);
  taker.join();
  EXPECT_EQ(third, first);
  buffers.GiveBack(part, second);
  buffers.GiveBack(part, third);
}

TEST(WriteBuffers, APartThatHoldsNoneGetsOneBeyondTheBound) {
  WriteBuffers buffers(kBytes, 1 * kBytes, 9);
  WriteBuffers::Holder stalled, other;
  char* held = buffers.Take(stalled);
  char* extra = buffers.Take(other);  // would wait for ever otherwise
  EXPECT_NE(held, extra);
  buffers.GiveBack(other, extra);
  buffers.GiveBack(stalled, held);
}

}  // namespace
}  // namespace ckpt
