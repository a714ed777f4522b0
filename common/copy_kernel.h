// Copying large blocks as fast as memory allows: non-temporal stores, which skip reading the
// destination's lines and leave the caches to the trainer. The instruction set is chosen at run
// time. Thread-safe, no state.
#ifndef CKPT_COMMON_COPY_KERNEL_H_
#define CKPT_COMMON_COPY_KERNEL_H_

#include <cstddef>

namespace ckpt {

// Copies `bytes` from `from` to `to`, which must not overlap; short copies are plain memcpy. Before
// another thread or process is told of the bytes, the copying thread must call CopyFence.
void CopyStreaming(std::byte* to, const std::byte* from, size_t bytes);
void CopyFence();

}  // namespace ckpt

#endif  // CKPT_COMMON_COPY_KERNEL_H_
