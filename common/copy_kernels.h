// The kernels that CopyStreaming chooses from. Internal: for copy_kernel.cc and its test, which
// runs every one that the processor can execute.
#ifndef CKPT_COMMON_COPY_KERNELS_H_
#define CKPT_COMMON_COPY_KERNELS_H_

#include <cstddef>
#include <vector>

#include "absl/strings/string_view.h"

namespace ckpt::internal {

// Shorter copies are not for the kernels: below this their head and tail handling costs more than
// the stores save, and they rely on at least a cache line.
inline constexpr size_t kStreamingBytesMin = 2048;

// As CopyStreaming, of at least kStreamingBytesMin bytes; the caller fences.
using CopyFunction = void (*)(std::byte* to, const std::byte* from, size_t bytes);

struct CopyKernel {
  absl::string_view name;
  CopyFunction copy = nullptr;
};
// Those that this processor can execute, chosen or not.
std::vector<CopyKernel> CopyKernels();

}  // namespace ckpt::internal

#endif  // CKPT_COMMON_COPY_KERNELS_H_
