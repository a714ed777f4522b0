// What the adapter's tests share: saving into a plan in memory, loading from it, comparing bits, a
// few small models.
#ifndef CKPT_TESTS_TORCH_TORCH_TEST_H_
#define CKPT_TESTS_TORCH_TORCH_TEST_H_

#include <torch/torch.h>

#include <memory>
#include <string>
#include <vector>

#include "client/torch/checkpointer.h"
#include "client/torch/flatten.h"
#include "client/torch/load.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/torch/plan_of_parts.h"

#define ASSERT_OK(expression)                  \
  do {                                         \
    const absl::Status status_ = (expression); \
    ASSERT_TRUE(status_.ok()) << status_;      \
  } while (false)
#define EXPECT_OK(expression)                  \
  do {                                         \
    const absl::Status status_ = (expression); \
    EXPECT_TRUE(status_.ok()) << status_;      \
  } while (false)

namespace ckpt::testing {

// What MakePart says about `state`, as the only rank or one of several.
inline absl::StatusOr<Part> PartOf(const StateDict& state, const TorchSaveOptions& options = {},
                                   uint32_t rank = 0, uint32_t world_size = 1) {
  return MakePart(state, options, rank, world_size, {});
}

// The checkpoint that ranks with these states save together. Also runs each part through the core
// client's own checks.
inline std::shared_ptr<PlanOfParts> SavedBy(const std::vector<StateDict>& states,
                                            const TorchSaveOptions& options = {},
                                            uint64_t step = 7) {
  std::vector<Part> parts;
  std::string replicated;
  for (size_t rank = 0; rank < states.size(); ++rank) {
    auto part = PartOf(states[rank], options, static_cast<uint32_t>(rank),
                       static_cast<uint32_t>(states.size()));
    EXPECT_TRUE(part.ok()) << part.status();
    if (!part.ok()) return nullptr;
    const auto plan = MakePartPlan(*part);
    EXPECT_TRUE(plan.ok()) << plan.status();
    if (!plan.ok()) return nullptr;
    const std::string digest(plan->layout->replicated_digest());
    if (rank == 0) replicated = digest;
    EXPECT_EQ(digest, replicated) << "rank " << rank << " has another list of replicated leaves";
    parts.push_back(*std::move(part));
  }
  return std::make_shared<PlanOfParts>(parts, step);
}
inline std::shared_ptr<PlanOfParts> Saved(const StateDict& state,
                                          const TorchSaveOptions& options = {}) {
  return SavedBy({state}, options);
}

inline absl::StatusOr<LoadResult> LoadFrom(std::shared_ptr<RestorePlan> plan, StateDict& state,
                                           const LoadOptions& options = {}, LoadingRank rank = {}) {
  StateValue value(std::move(state));
  auto result = LoadInto(std::move(plan), rank, value, {}, options);
  state = std::move(*value.If<StateDict>());
  return result;
}

// Same dtype, shape and bits (NaNs too).
inline bool BitEqual(const at::Tensor& a, const at::Tensor& b) {
  if (a.scalar_type() != b.scalar_type() || a.sizes() != b.sizes()) return false;
  const at::Tensor x = a.detach().contiguous();
  const at::Tensor y = b.detach().contiguous();
  return x.nbytes() == 0 || std::memcmp(x.data_ptr(), y.data_ptr(), x.nbytes()) == 0;
}

inline std::vector<std::string> KeysOf(const StateDict& dict) {
  std::vector<std::string> keys;
  for (const StateEntry& entry : dict) keys.push_back(entry.key.ToString());
  return keys;
}

inline const StateDict& Dict(const StateDict& dict, const StateKey& key) {
  const StateValue* value = dict.Find(key);
  static const StateDict kNone;
  EXPECT_TRUE(value != nullptr && value->If<StateDict>() != nullptr) << key.ToString();
  return value && value->If<StateDict>() ? *value->If<StateDict>() : kNone;
}
inline at::Tensor TensorAt(const StateDict& dict, const StateKey& key) {
  const StateValue* value = dict.Find(key);
  EXPECT_TRUE(value != nullptr && value->If<at::Tensor>() != nullptr) << key.ToString();
  return value && value->If<at::Tensor>() ? *value->If<at::Tensor>() : at::Tensor();
}

// Two linear layers around batch normalisation: parameters, and buffers of two dtypes.
inline torch::nn::Sequential SmallModel(uint64_t seed) {
  torch::manual_seed(seed);
  return torch::nn::Sequential(torch::nn::Linear(5, 7), torch::nn::BatchNorm1d(7),
                               torch::nn::ReLU(), torch::nn::Linear(7, 3));
}

inline void TrainStep(torch::nn::Sequential& model, torch::optim::Optimizer& optimizer,
                      uint64_t seed) {
  torch::manual_seed(seed);
  const at::Tensor x = torch::randn({8, 5});
  const at::Tensor y = torch::randn({8, 3});
  optimizer.zero_grad();
  torch::mse_loss(model->forward(x), y).backward();
  optimizer.step();
}

}  // namespace ckpt::testing

#endif  // CKPT_TESTS_TORCH_TORCH_TEST_H_
