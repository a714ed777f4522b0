// AdamW with its state sharded over the ranks (ZeRO stage 1): each rank keeps exp_avg and
// exp_avg_sq only for its rows of every parameter, updates these rows, and the updated rows are
// gathered from all ranks. Gradients lie in one flat buffer, averaged by one all-reduce.
#ifndef CKPT_CLIENT_EXAMPLES_SHARDED_ADAMW_H_
#define CKPT_CLIENT_EXAMPLES_SHARDED_ADAMW_H_

#include <torch/torch.h>

#include <memory>
#include <string>
#include <vector>

#include "client/examples/data_parallel.h"

namespace train_lm {

class ShardedAdamW {
 public:
  // Rows [begin, begin + count) of a parameter, this rank's; count may be 0.
  struct Rows {
    std::string name;
    torch::Tensor parameter;  // whole
    torch::Tensor mine;       // a view of `parameter`: this rank's rows
    int64_t begin = 0;
  };

  // `group` must outlive this. Parameters must stay where they are.
  ShardedAdamW(const torch::OrderedDict<std::string, torch::Tensor>& parameters,
               DataParallel* group);

  void ZeroGradients() { gradients_.zero_(); }
  // Averages the gradients over the ranks and clips their norm. Parameters are only read.
  void ReduceGradients();
  // Changes the parameters.
  void Step(double learning_rate);

  // The optimizer of this rank's rows. Its parameters are rows()[i].mine, in this order, without
  // those of zero rows. Its state exists from the start, zeros, so that a checkpoint has somewhere
  // to load to.
  torch::optim::AdamW& optimizer() { return *optimizer_; }
  // exp_avg, exp_avg_sq and step of rows that aren't empty.
  const torch::optim::AdamWParamState& state(const Rows& rows) const;
  const std::vector<Rows>& rows() const { return rows_; }

 private:
  DataParallel* group_;
  std::vector<Rows> rows_;
  torch::Tensor gradients_;  // all parameters' gradients, flat
  torch::Tensor send_;       // this rank's rows, flat, padded to the longest rank's
  torch::Tensor receive_;    // [ranks, ...] of these
  std::unique_ptr<torch::optim::AdamW> optimizer_;
};

}  // namespace train_lm

#endif  // CKPT_CLIENT_EXAMPLES_SHARDED_ADAMW_H_
