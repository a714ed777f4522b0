// The caller's state as a checkpoint has it: dictionaries, lists, tensors and plain values alone,
// each leaf with its placement. Step 1 of a save; step 2 is flatten.h.
#ifndef CKPT_CLIENT_TORCH_CONVERT_H_
#define CKPT_CLIENT_TORCH_CONVERT_H_

#include <string>

#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "ckpt/v1/checkpoint.pb.h"
#include "client/torch/state.h"

namespace ckpt {

struct Placements {
  v1::Placement module = v1::PLACEMENT_REPLICATED;
  v1::Placement optimizer = v1::PLACEMENT_REPLICATED;
  v1::Placement other = v1::PLACEMENT_PER_RANK;
};

class Converter {
 public:
  explicit Converter(Placements placements) : placements_(placements) {}
  // The same kind of value for what is plain, a dictionary for modules, optimizers and Stateful
  // objects; tensors are the live ones. `path` is for errors. INVALID_ARGUMENT, UNIMPLEMENTED,
  // and whatever a Stateful object says.
  absl::StatusOr<StateValue> Convert(const StateValue& value, const std::string& path);

  // True for parameters and optimizer state met so far: they change in the optimizer's step, not
  // in forward and backward.
  bool changes_in_step(const at::Tensor& tensor) const {
    return changes_in_step_.contains(tensor.unsafeGetTensorImpl());
  }

 private:
  absl::StatusOr<StateValue> Convert(const StateValue& value, const std::string& path,
                                     v1::Placement inherited, int depth);
  absl::StatusOr<StateValue> ConvertModule(const ModuleState& module, v1::Placement placement);
  absl::StatusOr<StateValue> ConvertOptimizer(StateDict state, v1::Placement placement);

  Placements placements_;
  absl::flat_hash_set<const void*> changes_in_step_;
};

// PyTorch's layout of an optimizer, `state` and `param_groups`. INVALID_ARGUMENT: the description
// of a sharded optimizer doesn't fit it. Placements are not set.
absl::StatusOr<StateDict> OptimizerToState(torch::optim::Optimizer& optimizer);
absl::StatusOr<StateDict> OptimizerToState(const ShardedOptimizer& sharded);

// INVALID_ARGUMENT unless local tensor, offset and replica counts fit the global shape.
absl::Status CheckSharded(const Sharded& sharded);

}  // namespace ckpt

#endif  // CKPT_CLIENT_TORCH_CONVERT_H_
