#include "common/copy_kernel.h"

#include <cstring>
#include <string>
#include <vector>

#include "common/copy_kernels.h"
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

// Exactly the asked bytes change, at every alignment of both sides within a few bytes of a cache
// line.
void CheckCopy(internal::CopyFunction copy, const std::vector<size_t>& sizes) {
  constexpr std::byte kUntouched{0xA5};
  for (const size_t bytes : sizes) {
    const std::vector<std::byte> from = Pattern(bytes + 128);
    for (const size_t to_shift : {0, 1, 31, 32, 33, 63}) {
      for (const size_t from_shift : {0, 1, 7, 32, 61}) {
        std::vector<std::byte> to(bytes + 192, kUntouched);
        copy(to.data() + 64 + to_shift, from.data() + from_shift, bytes);
        CopyFence();
        ASSERT_EQ(std::memcmp(to.data() + 64 + to_shift, from.data() + from_shift, bytes), 0)
            << bytes << " to +" << to_shift << " from +" << from_shift;
        ASSERT_EQ(to[64 + to_shift - 1], kUntouched);
        ASSERT_EQ(to[64 + to_shift + bytes], kUntouched);
      }
    }
  }
}

// Every size around the switch to streaming stores.
TEST(CopyKernel, CopiesExactlyTheAskedBytesAtEveryAlignment) {
  CheckCopy(CopyStreaming, {0, 1, 63, 64, 2047, 2048, 2049, 2303, 2304, 4096, 5000, 8191});
}

// Whichever of them is chosen here: bytes before, at and behind the pages that they copy side by
// side, up to eight.
TEST(CopyKernel, EveryKernelThatThisProcessorExecutesCopiesTheSame) {
  const std::vector<internal::CopyKernel> kernels = internal::CopyKernels();
  ASSERT_FALSE(kernels.empty());
  for (const internal::CopyKernel& kernel : kernels) {
    SCOPED_TRACE(std::string(kernel.name));
    CheckCopy(kernel.copy, {internal::kStreamingBytesMin, 2049, 2303, 4096, 8191, 16384, 16447,
                            32767, 32768, 32831, 40000, 70001});
  }
}

}  // namespace
}  // namespace ckpt
