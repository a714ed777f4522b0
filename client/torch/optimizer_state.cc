// Optimizers to PyTorch's layout: {"state": {index: {"step", "exp_avg", ...}}, "param_groups":
// [{"lr", ..., "params": [0, 1]}]}.
#include <ATen/ops/scalar_tensor.h>
#include <torch/optim/optimizer.h>

#include <algorithm>
#include <exception>

#include "absl/strings/str_cat.h"
#include "client/torch/convert.h"
#include "client/torch/optimizer_codec.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

using torch::optim::Optimizer;

// Python's float32 holds every integer up to here; later steps need float64, which PyTorch reads
// as well.
constexpr int64_t kExactFloat32Max = int64_t{1} << 24;

at::Tensor StepTensor(int64_t step) {
  const auto type = step <= kExactFloat32Max ? c10::ScalarType::Float : c10::ScalarType::Double;
  return at::scalar_tensor(static_cast<double>(step), at::TensorOptions().dtype(type));
}

absl::Status CheckDescription(const ShardedOptimizer& sharded) {
  size_t parameters = 0;
  for (const auto& group : sharded.optimizer->param_groups()) parameters += group.params().size();
  if (sharded.parameters.size() != parameters) {
    return absl::InvalidArgumentError(absl::StrCat("the sharded optimizer holds ", parameters,
                                                   " parameters, but ", sharded.parameters.size(),
                                                   " are described"));
  }
  if (sharded.groups.size() != sharded.optimizer->param_groups().size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the sharded optimizer has ", sharded.optimizer->param_groups().size(),
                     " groups, but the indices of ", sharded.groups.size(), " are given"));
  }
  size_t k = 0;
  for (size_t g = 0; g < sharded.groups.size(); ++g) {
    const auto& indices = sharded.groups[g];
    for (const at::Tensor& parameter : sharded.optimizer->param_groups()[g].params()) {
      const ShardedOptimizer::Parameter& described = sharded.parameters[k++];
      if (std::find(indices.begin(), indices.end(), described.index) == indices.end()) {
        return absl::InvalidArgumentError(absl::StrCat(
            "parameter ", described.index, " is not among the indices of its group ", g));
      }
      const absl::Status fits = CheckSharded({parameter, described.global_shape, described.offset,
                                              described.replica_index, described.replica_count});
      if (!fits.ok()) {
        return absl::Status(fits.code(),
                            absl::StrCat("parameter ", described.index, ": ", fits.message()));
      }
    }
  }
  return absl::OkStatus();
}

// The tensors and the step of one parameter's state; as boxes where `described` is set.
StateDict ParameterState(const OptimizerCodec& codec, torch::optim::OptimizerParamState& state,
                         const torch::optim::OptimizerOptions& options,
                         const ShardedOptimizer::Parameter* described, bool holds_first_element) {
  StateDict fields;
  if (const int64_t* step = codec.Step(state)) {
    if (described == nullptr) {
      fields["step"] = codec.step_is_tensor() ? StateValue(StepTensor(*step)) : StateValue(*step);
    } else if (holds_first_element) {
      // All ranks that hold a part of the parameter have the same step; the one that holds its
      // first element writes it, with that box's replicas. Always a tensor, as a plain value
      // cannot be sharded; PyTorch takes either.
      fields["step"] =
          Sharded{StepTensor(*step), {}, {}, described->replica_index, described->replica_count};
    }
  }
  for (const OptimizerTensorField& field : codec.Tensors(state, options)) {
    if (!field.tensor->defined()) continue;
    if (described == nullptr) {
      fields[field.name] = *field.tensor;
    } else {
      fields[field.name] = Sharded{*field.tensor, described->global_shape, described->offset,
                                   described->replica_index, described->replica_count};
    }
  }
  return fields;
}

bool HoldsFirstElement(const ShardedOptimizer::Parameter& described, const at::Tensor& local) {
  return local.numel() > 0 && std::all_of(described.offset.begin(), described.offset.end(),
                                          [](int64_t offset) { return offset == 0; });
}

absl::StatusOr<StateDict> ToState(Optimizer& optimizer, const ShardedOptimizer* sharded) {
  CKPT_ASSIGN_OR_RETURN(const OptimizerCodec* codec, CodecOf(optimizer));
  StateDict state;
  StateList groups;
  int64_t next = 0;
  for (size_t g = 0; g < optimizer.param_groups().size(); ++g) {
    const auto& group = optimizer.param_groups()[g];
    StateList indices;
    for (const at::Tensor& parameter : group.params()) {
      const ShardedOptimizer::Parameter* described =
          sharded == nullptr ? nullptr : &sharded->parameters[static_cast<size_t>(next)];
      const int64_t index = described == nullptr ? next : described->index;
      ++next;
      if (described == nullptr) indices.Add(index);
      torch::optim::OptimizerParamState* found = FindParamState(optimizer, parameter);
      if (found == nullptr) continue;
      StateDict fields = ParameterState(*codec, *found, group.options(), described,
                                        described && HoldsFirstElement(*described, parameter));
      // A rank with an empty box says nothing of this parameter but its empty boxes.
      if (!fields.empty()) state[index] = std::move(fields);
    }
    if (sharded != nullptr) {
      for (const int64_t index : sharded->groups[g]) indices.Add(index);
    }
    StateDict options = codec->OptionsToState(group.options());
    options["params"] = std::move(indices);
    groups.Add(std::move(options));
  }
  StateDict result{{"state", std::move(state)}, {"param_groups", std::move(groups)}};
  if (StateValue& written = result["state"]; sharded && written.If<StateDict>()->empty()) {
    // Other ranks may well hold something: this emptiness is this rank's alone.
    written.set_placement(v1::PLACEMENT_PER_RANK);
  }
  return result;
}

absl::StatusOr<StateDict> ToStateCaught(Optimizer& optimizer, const ShardedOptimizer* sharded) {
  try {
    return ToState(optimizer, sharded);
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("LibTorch failed on an optimizer: ", error.what()));
  }
}

}  // namespace

absl::StatusOr<StateDict> OptimizerToState(Optimizer& optimizer) {
  return ToStateCaught(optimizer, nullptr);
}

absl::StatusOr<StateDict> OptimizerToState(const ShardedOptimizer& sharded) {
  if (sharded.optimizer == nullptr) return absl::InvalidArgumentError("the optimizer is null");
  CKPT_RETURN_IF_ERROR(CheckDescription(sharded));
  return ToStateCaught(*sharded.optimizer, &sharded);
}

}  // namespace ckpt
