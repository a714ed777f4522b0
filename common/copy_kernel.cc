#include "common/copy_kernel.h"

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "common/copy_kernels.h"

namespace ckpt {
namespace {

void CopyPlain(std::byte* to, const std::byte* from, size_t bytes) { std::memcpy(to, from, bytes); }

#if defined(__x86_64__)
constexpr size_t kLine = 64;
constexpr size_t kPair = 2 * kLine;
constexpr size_t kPage = 4096;

// A hardware prefetcher follows a stream to the end of its page and learns the next one anew. So
// several pages are copied side by side, a chunk of each in turn: while one stream begins, the
// others run. How many streams a core follows, and whether it wants to be told what comes next,
// differs: measured with one thread into tmpfs, in GB/s, once, by builds that tried each in the
// benchmark's row `stall` (no command repeats all of them),
//
//                          page after page, prefetched   8 or 4 side by side   memcpy
//   Xeon with AVX-512                        8.9      -                   12.1    11.5
//   EPYC 7003 (Zen 3), avx2                  7.2    8.6                    5.4     8.1
//   EPYC 9005 (Zen 5), avx512               24.8   17.4                   17.0    18.3
//
// (the last row outside of the benchmark: chunks of 4 MiB from pages of 4 KiB, 2 GiB).
template <size_t kPages, size_t kChunk, typename CopyChunk>
inline __attribute__((always_inline)) void CopyPages(std::byte* to, const std::byte* from,
                                                     size_t bytes, CopyChunk copy_chunk) {
  const size_t head = (kLine - reinterpret_cast<uintptr_t>(to) % kLine) % kLine;
  std::memcpy(to, from, head);
  to += head;
  from += head;
  bytes -= head;
  for (; bytes >= kPages * kPage; bytes -= kPages * kPage) {
    for (size_t at = 0; at < kPage; at += kChunk) {
      for (size_t page = 0; page < kPages; ++page) {
        copy_chunk(to + page * kPage + at, from + page * kPage + at);
      }
    }
    to += kPages * kPage;
    from += kPages * kPage;
  }
  for (; bytes >= kChunk; bytes -= kChunk) {
    copy_chunk(to, from);
    to += kChunk;
    from += kChunk;
  }
  std::memcpy(to, from, bytes);
}

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2")
#endif
void CopyAvx2(std::byte* to, const std::byte* from, size_t bytes) {
  CopyPages<4, kPair>(to, from, bytes, [](std::byte* out, const std::byte* in) {
    const auto* source = reinterpret_cast<const __m256i*>(in);
    auto* target = reinterpret_cast<__m256i*>(out);
    const __m256i a = _mm256_loadu_si256(source + 0);
    const __m256i b = _mm256_loadu_si256(source + 1);
    const __m256i c = _mm256_loadu_si256(source + 2);
    const __m256i d = _mm256_loadu_si256(source + 3);
    _mm256_stream_si256(target + 0, a);
    _mm256_stream_si256(target + 1, b);
    _mm256_stream_si256(target + 2, c);
    _mm256_stream_si256(target + 3, d);
  });
}

void CopyAvx2ByLines(std::byte* to, const std::byte* from, size_t bytes) {
  constexpr size_t kAhead = 8 * kLine;
  CopyPages<1, kLine>(to, from, bytes, [](std::byte* out, const std::byte* in) {
    _mm_prefetch(reinterpret_cast<const char*>(in + kAhead), _MM_HINT_NTA);  // never faults
    const auto* source = reinterpret_cast<const __m256i*>(in);
    auto* target = reinterpret_cast<__m256i*>(out);
    const __m256i a = _mm256_loadu_si256(source + 0);
    const __m256i b = _mm256_loadu_si256(source + 1);
    _mm256_stream_si256(target + 0, a);
    _mm256_stream_si256(target + 1, b);
  });
}
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f")
#endif
void CopyAvx512(std::byte* to, const std::byte* from, size_t bytes) {
  CopyPages<8, kPair>(to, from, bytes, [](std::byte* out, const std::byte* in) {
    const __m512i a = _mm512_loadu_si512(in);
    const __m512i b = _mm512_loadu_si512(in + kLine);
    _mm512_stream_si512(reinterpret_cast<__m512i*>(out), a);
    _mm512_stream_si512(reinterpret_cast<__m512i*>(out + kLine), b);
  });
}

void CopyAvx512ByLines(std::byte* to, const std::byte* from, size_t bytes) {
  CopyPages<1, kLine>(to, from, bytes, [](std::byte* out, const std::byte* in) {
    _mm512_stream_si512(reinterpret_cast<__m512i*>(out), _mm512_loadu_si512(in));
  });
}
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

internal::CopyFunction ChooseKernel() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool amd = __builtin_cpu_is("amd");
  if (__builtin_cpu_supports("avx512f")) return amd ? CopyAvx512ByLines : CopyAvx512;
  if (amd && __builtin_cpu_supports("avx2")) return CopyAvx2ByLines;
  if (__builtin_cpu_supports("avx2")) return CopyAvx2;
#endif
  return CopyPlain;
}

}  // namespace

std::vector<internal::CopyKernel> internal::CopyKernels() {
  std::vector<CopyKernel> kernels = {{"memcpy", CopyPlain}};
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2")) {
    kernels.push_back({"avx2", CopyAvx2});
    kernels.push_back({"avx2 by lines", CopyAvx2ByLines});
  }
  if (__builtin_cpu_supports("avx512f")) {
    kernels.push_back({"avx512", CopyAvx512});
    kernels.push_back({"avx512 by lines", CopyAvx512ByLines});
  }
#endif
  return kernels;
}

void CopyStreaming(std::byte* to, const std::byte* from, size_t bytes) {
  if (bytes < internal::kStreamingBytesMin) {
    if (bytes > 0) std::memcpy(to, from, bytes);
    return;
  }
  static const internal::CopyFunction kernel = ChooseKernel();
  kernel(to, from, bytes);
}

void CopyFence() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

}  // namespace ckpt
