// The caller's state as a checkpoint has it: dictionaries, lists, tensors and plain values alone,
// each leaf with its placement. Step 1 of a save; step 2 is flatten.h.
#ifndef CKPT_CLIENT_TORCH_CONVERT_H_
#define CKPT_CLIENT_TORCH_CONVERT_H_

#include <map>
#include <string>
#include <tuple>
#include <vector>

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

// What makes a parameter and its name in the state the same memory; also where a rank holds nothing
// of it.
using BytesIdentity = std::tuple<const void*, int64_t, std::vector<int64_t>>;
BytesIdentity IdentityOfBytes(const at::Tensor& tensor);

class Converter {
 public:
  // `for_pruning`: keeps what optimizer_entries and tensors answer.
  explicit Converter(Placements placements, bool for_pruning = false)
      : placements_(placements), for_pruning_(for_pruning) {}
  // The same kind of value for what is plain, a dictionary for modules, optimizers and Stateful
  // objects; tensors are the live ones. `path` is for errors. INVALID_ARGUMENT, UNIMPLEMENTED,
  // and whatever a Stateful object says.
  absl::StatusOr<StateValue> Convert(const StateValue& value, const std::string& path);

  // True for parameters and optimizer state met so far: they change in the optimizer's step, not
  // in forward and backward.
  bool changes_in_step(const at::Tensor& tensor) const {
    return changes_in_step_.contains(tensor.unsafeGetTensorImpl());
  }

  bool for_pruning() const { return for_pruning_; }
  // What the optimizers met so far keep for one parameter: the parameter, by the printed key under
  // which its entries lie, "optimizer.state.0".
  const std::map<std::string, BytesIdentity>& optimizer_entries() const {
    return optimizer_entries_;
  }
  // The tensors met outside of optimizers.
  const absl::flat_hash_set<BytesIdentity>& tensors() const { return tensors_; }

 private:
  absl::StatusOr<StateValue> Convert(const StateValue& value, const std::string& path,
                                     v1::Placement inherited, int depth);
  absl::StatusOr<StateValue> ConvertModule(const ModuleState& module, v1::Placement placement);
  absl::StatusOr<StateValue> ConvertOptimizer(StateDict state, v1::Placement placement);
  void NoteTensor(const at::Tensor& tensor) {
    if (for_pruning_ && tensor.defined()) tensors_.insert(IdentityOfBytes(tensor));
  }
  void NoteEntries(const std::string& path, const torch::optim::Optimizer& optimizer,
                   const ShardedOptimizer* sharded);

  Placements placements_;
  bool for_pruning_;
  absl::flat_hash_set<const void*> changes_in_step_;
  std::map<std::string, BytesIdentity> optimizer_entries_;
  absl::flat_hash_set<BytesIdentity> tensors_;
};

// PyTorch's layout of an optimizer, `state` and `param_groups`. INVALID_ARGUMENT: the description
// of a sharded optimizer doesn't fit it. Placements are not set.
absl::StatusOr<StateDict> OptimizerToState(torch::optim::Optimizer& optimizer);
absl::StatusOr<StateDict> OptimizerToState(const ShardedOptimizer& sharded);

// INVALID_ARGUMENT unless local tensor, offset and replica counts fit the global shape.
absl::Status CheckSharded(const Sharded& sharded);

}  // namespace ckpt

#endif  // CKPT_CLIENT_TORCH_CONVERT_H_
