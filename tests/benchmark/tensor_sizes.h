// The mix of tensor sizes that the benchmarks save: a language model's, from embeddings of 64 MiB
// to scalars. Header only: the torch::save helper uses it too.
#ifndef CKPT_TESTS_BENCHMARK_TENSOR_SIZES_H_
#define CKPT_TESTS_BENCHMARK_TENSOR_SIZES_H_

#include <algorithm>
#include <cstdint>
#include <vector>

namespace ckpt::bench {

// Bytes of each tensor, multiples of 4, `total` (a multiple of 4) in all. Where that is less than
// one layer, its large tensors are as many times smaller.
inline std::vector<uint64_t> TensorSizes(uint64_t total) {
  constexpr uint64_t kKiB = 1024, kMiB = 1024 * kKiB;
  struct Kind {
    int count;
    uint64_t bytes;
  };
  constexpr Kind kLayer[] = {{1, 64 * kMiB}, {4, 16 * kMiB}, {4, 4 * kMiB}, {2, kMiB},
                             {4, 64 * kKiB}, {8, 4 * kKiB},  {4, 512},      {2, 4}};
  constexpr uint64_t kLayerBytes = 150 * kMiB;
  const uint64_t smaller = total < kLayerBytes ? kLayerBytes / std::max<uint64_t>(1, total) + 1 : 1;
  std::vector<uint64_t> sizes;
  while (total > 0) {
    for (const Kind& kind : kLayer) {
      for (int i = 0; i < kind.count && total > 0; ++i) {
        const uint64_t scaled = kind.bytes < kMiB ? kind.bytes : kind.bytes / smaller / 4 * 4;
        const uint64_t bytes = std::min(scaled, total);
        sizes.push_back(bytes);
        total -= bytes;
      }
    }
  }
  return sizes;
}

}  // namespace ckpt::bench

#endif  // CKPT_TESTS_BENCHMARK_TENSOR_SIZES_H_
