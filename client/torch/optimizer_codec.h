// What is inside each of LibTorch's optimizers, under the names that PyTorch's Python state_dict()
// uses: per-parameter tensors and step, hyperparameters per group. One codec per optimizer class.
#ifndef CKPT_CLIENT_TORCH_OPTIMIZER_CODEC_H_
#define CKPT_CLIENT_TORCH_OPTIMIZER_CODEC_H_

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/torch/state.h"

namespace torch::optim {
class OptimizerOptions;
class OptimizerParamState;
}  // namespace torch::optim

namespace ckpt {

struct OptimizerTensorField {
  const char* name;
  at::Tensor* tensor;  // undefined where the optimizer has none
  bool required;       // step() needs it under these options
};

class OptimizerCodec {
 public:
  virtual ~OptimizerCodec() = default;
  virtual const char* name() const = 0;
  // Made with the optimizer, not by the first step: step() relies on it.
  virtual bool always_has_state() const = 0;

  // Python keeps the step of Adam, AdamW and Adagrad as a float32 scalar tensor, that of RMSprop as
  // an integer; SGD has none (nullptr from Step).
  virtual bool step_is_tensor() const = 0;
  virtual int64_t* Step(torch::optim::OptimizerParamState& state) const = 0;
  virtual std::vector<OptimizerTensorField> Tensors(
      torch::optim::OptimizerParamState& state,
      const torch::optim::OptimizerOptions& options) const = 0;
  virtual std::unique_ptr<torch::optim::OptimizerParamState> NewState() const = 0;

  // Everything of a group of param_groups but `params`, in Python's order, with the values that
  // options of Python have which LibTorch lacks.
  virtual StateDict OptionsToState(const torch::optim::OptimizerOptions& options) const = 0;
  // A copy of `options` with what `group` says. INVALID_ARGUMENT: a value of the wrong type, or an
  // option (maximize) that this LibTorch cannot do. Names that only matter for speed or that
  // nobody knows are ignored. `missing` gets the names that `group` lacks.
  virtual absl::StatusOr<std::unique_ptr<torch::optim::OptimizerOptions>> OptionsFromState(
      const StateDict& group, const torch::optim::OptimizerOptions& options,
      std::vector<std::string>& missing) const = 0;
};

// UNIMPLEMENTED names the class.
absl::StatusOr<const OptimizerCodec*> CodecOf(const torch::optim::Optimizer& optimizer);

// The optimizer's state of one parameter, or nullptr: LibTorch's map is keyed by address, in a form
// that changed between versions.
torch::optim::OptimizerParamState* FindParamState(torch::optim::Optimizer& optimizer,
                                                  const at::Tensor& parameter);
void SetParamState(torch::optim::Optimizer& optimizer, const at::Tensor& parameter,
                   std::unique_ptr<torch::optim::OptimizerParamState> state);  // null: removes it

}  // namespace ckpt

#endif  // CKPT_CLIENT_TORCH_OPTIMIZER_CODEC_H_
