// The state that a rank process saves and the tests expect of it: every byte follows from the rank,
// the number of ranks and the shape.
#ifndef CKPT_TESTS_CONFORMANCE_RANK_STATE_H_
#define CKPT_TESTS_CONFORMANCE_RANK_STATE_H_

#include <algorithm>
#include <cstdint>

#include "tests/torch/torch_test.h"

namespace ckpt::testing {

struct RankShape {
  uint32_t rank = 0;
  uint32_t world_size = 1;
  int64_t size = 13;  // of the sharded tensor along `dim`
  int64_t dim = 0;
};

// Three dimensions, `size` along `dim`.
inline at::Tensor WholeTensor(int64_t size, int64_t dim) {
  std::vector<int64_t> shape = {2, 3, 4};
  shape[static_cast<size_t>(dim)] = size;
  return torch::arange(0, size * 24 / (dim + 2), torch::kFloat32).view(shape) + 0.5;
}

// Equal pieces, rounded up: uneven, and empty for the last ranks, where they don't divide.
inline Sharded ShardOf(const at::Tensor& whole, const RankShape& shape) {
  const int64_t size = whole.size(shape.dim);
  const int64_t each = (size + shape.world_size - 1) / shape.world_size;
  const int64_t begin = std::min<int64_t>(size, each * shape.rank);
  const int64_t end = std::min<int64_t>(size, begin + each);
  std::vector<int64_t> offset(static_cast<size_t>(whole.dim()), 0);
  offset[static_cast<size_t>(shape.dim)] = begin;
  return {whole.slice(shape.dim, begin, end).clone(), whole.sizes().vec(), offset};
}

// A model and its optimizer, equal on all ranks; a sharded tensor; values of each rank's own.
struct RankState {
  explicit RankState(const RankShape& shape, uint64_t seed)
      : model(SmallModel(seed)),
        optimizer(model->parameters(), torch::optim::AdamWOptions(0.01)),
        shard(ShardOf(WholeTensor(shape.size, shape.dim), shape)),
        state({{"model", model},
               {"optimizer", optimizer},
               {"sharded", shard},
               {"position", static_cast<int64_t>(shape.rank) * 10},
               {"random", torch::full({3}, static_cast<double>(shape.rank))}}) {}
  torch::nn::Sequential model;
  torch::optim::AdamW optimizer;
  Sharded shard;
  StateDict state;
};

}  // namespace ckpt::testing

#endif  // CKPT_TESTS_CONFORMANCE_RANK_STATE_H_
