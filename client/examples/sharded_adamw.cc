#include "client/examples/sharded_adamw.h"

#include <algorithm>

namespace train_lm {
namespace {

constexpr double kGradientNormMax = 1.0;

// Rank `rank` of `ranks` has rows [first, second) out of `rows`: as even as can be.
std::pair<int64_t, int64_t> RowRange(int64_t rows, int rank, int ranks) {
  return {rows * rank / ranks, rows * (rank + 1) / ranks};
}

torch::Tensor RowsOf(const torch::Tensor& parameter, int rank, int ranks) {
  const auto [begin, end] = RowRange(parameter.size(0), rank, ranks);
  return parameter.detach().narrow(0, begin, end - begin);
}

}  // namespace

ShardedAdamW::ShardedAdamW(const torch::OrderedDict<std::string, torch::Tensor>& parameters,
                           DataParallel* group)
    : group_(group) {
  const int ranks = group->ranks();
  int64_t elements = 0;
  std::vector<int64_t> elements_by_rank(ranks);
  for (const auto& item : parameters) {
    elements += item.value().numel();
    for (int rank = 0; rank < ranks; ++rank) {
      elements_by_rank[rank] += RowsOf(item.value(), rank, ranks).numel();
    }
  }
  gradients_ = torch::zeros({elements});
  const int64_t longest = *std::max_element(elements_by_rank.begin(), elements_by_rank.end());
  send_ = torch::zeros({longest});
  receive_ = torch::zeros({ranks, longest});

  std::vector<torch::Tensor> mine;
  int64_t at = 0;
  for (const auto& item : parameters) {
    const torch::Tensor& parameter = item.value();
    // Backward adds into these views, so that one all-reduce takes them all.
    torch::Tensor gradient = gradients_.narrow(0, at, parameter.numel()).view_as(parameter);
    at += parameter.numel();
    parameter.mutable_grad() = gradient;
    const int64_t begin = RowRange(parameter.size(0), group->rank(), ranks).first;
    Rows rows{item.key(), parameter, RowsOf(parameter, group->rank(), ranks), begin};
    rows.mine.mutable_grad() = RowsOf(gradient, group->rank(), ranks);
    if (rows.mine.numel() > 0) mine.push_back(rows.mine);
    rows_.push_back(std::move(rows));
  }

  optimizer_ =
      std::make_unique<torch::optim::AdamW>(mine, torch::optim::AdamWOptions().weight_decay(0.01));
  for (const torch::Tensor& rows : mine) {
    auto state = std::make_unique<torch::optim::AdamWParamState>();
    state->step(0);
    state->exp_avg(torch::zeros_like(rows));
    state->exp_avg_sq(torch::zeros_like(rows));
    optimizer_->state()[c10::guts::to_string(rows.unsafeGetTensorImpl())] = std::move(state);
  }
}

const torch::optim::AdamWParamState& ShardedAdamW::state(const Rows& rows) const {
  const std::string key = c10::guts::to_string(rows.mine.unsafeGetTensorImpl());
  return static_cast<const torch::optim::AdamWParamState&>(*optimizer_->state().at(key));
}

void ShardedAdamW::ReduceGradients() {
  torch::NoGradGuard no_grad;
  group_->Average(gradients_);
  const double norm = gradients_.norm().item<double>();
  if (norm > kGradientNormMax) gradients_.mul_(kGradientNormMax / norm);
}

void ShardedAdamW::Step(double learning_rate) {
  torch::NoGradGuard no_grad;
  optimizer_->param_groups()[0].options().set_lr(learning_rate);
  optimizer_->step();
  int64_t at = 0;
  for (const Rows& rows : rows_) {
    send_.narrow(0, at, rows.mine.numel()).view_as(rows.mine).copy_(rows.mine);
    at += rows.mine.numel();
  }
  group_->Gather(send_, receive_);
  for (int rank = 0; rank < group_->ranks(); ++rank) {
    if (rank == group_->rank()) continue;
    const torch::Tensor theirs = receive_[rank];
    at = 0;
    for (const Rows& rows : rows_) {
      torch::Tensor target = RowsOf(rows.parameter, rank, group_->ranks());
      target.copy_(theirs.narrow(0, at, target.numel()).view_as(target));
      at += target.numel();
    }
  }
}

}  // namespace train_lm
