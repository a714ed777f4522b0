#include "client/memory/copy_kernel.h"

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace ckpt {
namespace {

// No software prefetch: the hardware's own is at least as good on everything measured.
// Below this the head and tail handling costs more than the stores save.
constexpr size_t kStreamingBytesMin = 2048;

using CopyFunction = void (*)(std::byte*, const std::byte*, size_t);

void CopyPlain(std::byte* to, const std::byte* from, size_t bytes) { std::memcpy(to, from, bytes); }

#if defined(__x86_64__)
constexpr size_t kLine = 64;
constexpr size_t kStride = 4 * kLine;

// Copies up to the destination's next cache line and moves past it.
inline void CopyHead(std::byte*& to, const std::byte*& from, size_t& bytes) {
  const size_t head = (kLine - reinterpret_cast<uintptr_t>(to) % kLine) % kLine;
  std::memcpy(to, from, head);
  to += head;
  from += head;
  bytes -= head;
}

__attribute__((target("avx2"))) void CopyAvx2(std::byte* to, const std::byte* from, size_t bytes) {
  CopyHead(to, from, bytes);
  while (bytes >= kStride) {
    const auto* source = reinterpret_cast<const __m256i*>(from);
    auto* target = reinterpret_cast<__m256i*>(to);
    const __m256i a = _mm256_loadu_si256(source + 0);
    const __m256i b = _mm256_loadu_si256(source + 1);
    const __m256i c = _mm256_loadu_si256(source + 2);
    const __m256i d = _mm256_loadu_si256(source + 3);
    const __m256i e = _mm256_loadu_si256(source + 4);
    const __m256i f = _mm256_loadu_si256(source + 5);
    const __m256i g = _mm256_loadu_si256(source + 6);
    const __m256i h = _mm256_loadu_si256(source + 7);
    _mm256_stream_si256(target + 0, a);
    _mm256_stream_si256(target + 1, b);
    _mm256_stream_si256(target + 2, c);
    _mm256_stream_si256(target + 3, d);
    _mm256_stream_si256(target + 4, e);
    _mm256_stream_si256(target + 5, f);
    _mm256_stream_si256(target + 6, g);
    _mm256_stream_si256(target + 7, h);
    from += kStride;
    to += kStride;
    bytes -= kStride;
  }
  std::memcpy(to, from, bytes);
}

__attribute__((target("avx512f"))) void CopyAvx512(std::byte* to, const std::byte* from,
                                                   size_t bytes) {
  CopyHead(to, from, bytes);
  while (bytes >= kStride) {
    const __m512i a = _mm512_loadu_si512(from + 0 * kLine);
    const __m512i b = _mm512_loadu_si512(from + 1 * kLine);
    const __m512i c = _mm512_loadu_si512(from + 2 * kLine);
    const __m512i d = _mm512_loadu_si512(from + 3 * kLine);
    auto* target = reinterpret_cast<__m512i*>(to);
    _mm512_stream_si512(target + 0, a);
    _mm512_stream_si512(target + 1, b);
    _mm512_stream_si512(target + 2, c);
    _mm512_stream_si512(target + 3, d);
    from += kStride;
    to += kStride;
    bytes -= kStride;
  }
  std::memcpy(to, from, bytes);
}
#endif

struct Kernel {
  CopyFunction copy;
  const char* name;
};

Kernel ChooseKernel() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f")) return {CopyAvx512, "avx512"};
  if (__builtin_cpu_supports("avx2")) return {CopyAvx2, "avx2"};
#endif
  return {CopyPlain, "memcpy"};
}

const Kernel& ChosenKernel() {
  static const Kernel kernel = ChooseKernel();
  return kernel;
}

}  // namespace

void CopyStreaming(std::byte* to, const std::byte* from, size_t bytes) {
  if (bytes < kStreamingBytesMin) {
    if (bytes > 0) std::memcpy(to, from, bytes);
    return;
  }
  ChosenKernel().copy(to, from, bytes);
}

void CopyFence() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

absl::string_view CopyInstructionSet() { return ChosenKernel().name; }

}  // namespace ckpt
