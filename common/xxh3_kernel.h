// XXH3 compiled once for each instruction set, and the table by which digest.cc picks one when the
// program starts. Files that define a kernel include nothing but C headers and xxhash's: an inline
// function of C++ compiled there with AVX could be the copy that the linker keeps for everybody.
#ifndef CKPT_COMMON_XXH3_KERNEL_H_
#define CKPT_COMMON_XXH3_KERNEL_H_

#include <stddef.h>
#include <stdint.h>

namespace ckpt::internal {

inline constexpr size_t kXxh3StateBytes = 576;
inline constexpr size_t kXxh3StateAlignment = 64;

struct Xxh3Kernel {
  const char* name;
  uint64_t (*hash64)(const void* data, size_t bytes);
  void (*hash128)(const void* data, size_t bytes, unsigned char canonical[16]);
  // `state`: kXxh3StateBytes at kXxh3StateAlignment; the same for all kernels.
  void (*reset)(void* state);
  void (*update)(void* state, const void* data, size_t bytes);
  uint64_t (*digest)(const void* state);
  void (*digest128)(const void* state, unsigned char canonical[16]);
};

extern const Xxh3Kernel kXxh3Baseline;
extern const Xxh3Kernel kXxh3Avx2;    // x86-64 only
extern const Xxh3Kernel kXxh3Avx512;  // x86-64 only

}  // namespace ckpt::internal

#endif  // CKPT_COMMON_XXH3_KERNEL_H_
