#include "common/copy_kernel.h"

#include <cstring>
#include <vector>

#include "gtest/gtest.h"

namespace ckpt {
namespace {

std::vector<std::byte> Pattern(size_t bytes) {
  std::vector<std::byte> pattern(bytes);
  uint32_t state = 1;
  for (std::byte& byte : pattern) {
    state = state * 1664525 + 1013904223;
    byte = static_cast<std::byte>(state >> 24);
  }
  return pattern;
}

// Every size around the switch to streaming stores, at every alignment of both sides within a few
// bytes of a cache line: exactly the asked bytes change.
TEST(CopyKernel, CopiesExactlyTheAskedBytesAtEveryAlignment) {
  const std::vector<std::byte> from = Pattern(9000);
  constexpr std::byte kUntouched{0xA5};
  for (const size_t bytes : {0, 1, 63, 64, 2047, 2048, 2049, 2303, 2304, 4096, 5000, 8191}) {
    for (const size_t to_shift : {0, 1, 31, 32, 33, 63}) {
      for (const size_t from_shift : {0, 1, 7, 32, 61}) {
        std::vector<std::byte> to(9000, kUntouched);
        CopyStreaming(to.data() + 64 + to_shift, from.data() + from_shift, bytes);
        CopyFence();
        ASSERT_EQ(std::memcmp(to.data() + 64 + to_shift, from.data() + from_shift, bytes), 0)
            << bytes << " to +" << to_shift << " from +" << from_shift;
        ASSERT_EQ(to[64 + to_shift - 1], kUntouched);
        ASSERT_EQ(to[64 + to_shift + bytes], kUntouched);
      }
    }
  }
}

TEST(CopyKernel, NamesItsInstructionSet) { EXPECT_FALSE(CopyInstructionSet().empty()); }

}  // namespace
}  // namespace ckpt
