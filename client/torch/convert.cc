#include "client/torch/convert.h"

#include <torch/optim/optimizer.h>

#include <exception>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/torch/module_entries.h"
#include "common/limits.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

absl::Status At(const std::string& path, const absl::Status& status) {
  if (path.empty()) return status;
  return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
}

std::string Below(const std::string& path, const std::string& name) {
  return path.empty() ? name : absl::StrCat(path, ".", name);
}

// Sets the placement of every leaf that has none.
void PlaceLeaves(StateValue& value, v1::Placement placement) {
  if (StateDict* dict = value.If<StateDict>()) {
    for (StateEntry& entry : *dict) PlaceLeaves(entry.value, placement);
  } else if (StateList* list = value.If<StateList>()) {
    for (StateValue& item : *list) PlaceLeaves(item, placement);
  }
  if (value.placement() == v1::PLACEMENT_UNSPECIFIED) value.set_placement(placement);
}

}  // namespace

absl::Status CheckSharded(const Sharded& sharded) {
  if (!sharded.local.defined()) return absl::InvalidArgumentError("the local tensor is undefined");
  const size_t dims = sharded.global_shape.size();
  if (sharded.offset.size() != dims || static_cast<size_t>(sharded.local.dim()) != dims) {
    return absl::InvalidArgumentError(
        absl::StrCat("a sharded tensor's global shape has ", dims, " dimensions, its offset ",
                     sharded.offset.size(), ", the local tensor ", sharded.local.dim()));
  }
  for (size_t d = 0; d < dims; ++d) {
    const int64_t size = sharded.local.size(static_cast<int64_t>(d));
    const int64_t global = sharded.global_shape[d];
    const int64_t offset = sharded.offset[d];
    if (global < 0 || offset < 0 || offset > global || size > global - offset) {
      return absl::InvalidArgumentError(absl::StrCat(
          "a sharded tensor's box does not lie within [", absl::StrJoin(sharded.global_shape, ", "),
          "]: dimension ", d, " has offset ", offset, " and size ", size));
    }
  }
  if (sharded.replica_count == 0 || sharded.replica_index >= sharded.replica_count) {
    return absl::InvalidArgumentError(absl::StrCat("replica ", sharded.replica_index, " of ",
                                                   sharded.replica_count, " does not exist"));
  }
  return absl::OkStatus();
}

absl::StatusOr<StateValue> Converter::Convert(const StateValue& value, const std::string& path) {
  return Convert(value, path, v1::PLACEMENT_UNSPECIFIED, 0);
}

absl::StatusOr<StateValue> Converter::Convert(const StateValue& value, const std::string& path,
                                              v1::Placement inherited, int depth) {
  if (depth > static_cast<int>(kKeySegmentsMax)) {
    return At(path, absl::InvalidArgumentError("the state is nested too deeply"));
  }
  if (value.placement() != v1::PLACEMENT_UNSPECIFIED) inherited = value.placement();
  const auto placed = [&](v1::Placement standard) {
    return inherited == v1::PLACEMENT_UNSPECIFIED ? standard : inherited;
  };
  absl::StatusOr<StateValue> result = StateValue();
  if (const ModuleState* module = value.If<ModuleState>()) {
    result = ConvertModule(*module, placed(placements_.module));
  } else if (auto* const* optimizer = value.If<torch::optim::Optimizer*>()) {
    auto state = OptimizerToState(**optimizer);
    if (!state.ok()) return At(path, state.status());
    NoteEntries(path, **optimizer, nullptr);
    result = ConvertOptimizer(*std::move(state), placed(placements_.optimizer));
  } else if (const ShardedOptimizer* sharded = value.If<ShardedOptimizer>()) {
    auto state = OptimizerToState(*sharded);
    if (!state.ok()) return At(path, state.status());
    NoteEntries(path, *sharded->optimizer, sharded);
    result = ConvertOptimizer(*std::move(state), placed(placements_.optimizer));
  } else if (Stateful* const* object = value.If<Stateful*>()) {
    if (*object == nullptr) return At(path, absl::InvalidArgumentError("the object is null"));
    auto state = (*object)->SaveState();
    if (!state.ok()) return At(path, state.status());
    return Convert(StateValue(*std::move(state)), path, inherited, depth + 1);
  } else if (const StateDict* dict = value.If<StateDict>()) {
    StateDict converted;
    for (const StateEntry& entry : *dict) {
      CKPT_ASSIGN_OR_RETURN(
          converted[entry.key],
          Convert(entry.value, Below(path, entry.key.ToString()), inherited, depth + 1));
    }
    result = StateValue(std::move(converted));
  } else if (const StateList* list = value.If<StateList>()) {
    StateList converted;
    for (size_t i = 0; i < list->size(); ++i) {
      CKPT_ASSIGN_OR_RETURN(StateValue item, Convert((*list)[i], Below(path, std::to_string(i)),
                                                     inherited, depth + 1));
      converted.Add(std::move(item));
    }
    result = StateValue(std::move(converted));
  } else if (const StoredTensor* stored = value.If<StoredTensor>()) {
    auto tensor = stored->Read();
    if (!tensor.ok()) return At(path, tensor.status());
    result = StateValue(*std::move(tensor));
  } else {
    if (const Sharded* sharded = value.If<Sharded>()) {
      if (absl::Status status = CheckSharded(*sharded); !status.ok()) return At(path, status);
      NoteTensor(sharded->local);
    } else if (const at::Tensor* tensor = value.If<at::Tensor>()) {
      NoteTensor(*tensor);
    }
    result = value;
  }
  if (!result.ok()) return At(path, result.status());
  if (result->placement() == v1::PLACEMENT_UNSPECIFIED) {
    result->set_placement(placed(placements_.other));
  }
  return result;
}

absl::StatusOr<StateValue> Converter::ConvertModule(const ModuleState& module,
                                                    v1::Placement placement) {
  CKPT_ASSIGN_OR_RETURN(std::vector<ModuleEntry> entries, ModuleEntries(module));
  StateDict dict;
  for (ModuleEntry& entry : entries) {
    if (entry.is_parameter) changes_in_step_.insert(entry.tensor.unsafeGetTensorImpl());
    NoteTensor(entry.tensor);
    StateValue value(std::move(entry.tensor));
    value.set_placement(placement);
    dict[std::move(entry.name)] = std::move(value);
  }
  StateValue result(std::move(dict));
  result.set_placement(placement);
  return result;
}

absl::StatusOr<StateValue> Converter::ConvertOptimizer(StateDict state, v1::Placement placement) {
  if (const StateDict* parameters = state["state"].If<StateDict>()) {
    for (const StateEntry& parameter : *parameters) {
      for (const StateEntry& field : *parameter.value.If<StateDict>()) {
        if (const at::Tensor* tensor = field.value.If<at::Tensor>()) {
          changes_in_step_.insert(tensor->unsafeGetTensorImpl());
        } else if (const Sharded* sharded = field.value.If<Sharded>()) {
          changes_in_step_.insert(sharded->local.unsafeGetTensorImpl());
        }
      }
    }
  }
  StateValue result(std::move(state));
  PlaceLeaves(result, placement);
  return result;
}

BytesIdentity IdentityOfBytes(const at::Tensor& tensor) {
  // Sparse tensors and such have no storage; they are refused when the state is laid out.
  const void* memory = tensor.has_storage()
                           ? tensor.storage().unsafeGetStorageImpl()
                           : static_cast<const void*>(tensor.unsafeGetTensorImpl());
  return {memory, tensor.has_storage() ? tensor.storage_offset() : 0, tensor.sizes().vec()};
}

void Converter::NoteEntries(const std::string& path, const torch::optim::Optimizer& optimizer,
                            const ShardedOptimizer* sharded) {
  if (!for_pruning_) return;
  size_t k = 0;
  for (const auto& group : optimizer.param_groups()) {
    for (const at::Tensor& parameter : group.params()) {
      const int64_t index = sharded ? sharded->parameters[k].index : static_cast<int64_t>(k);
      optimizer_entries_.emplace(absl::StrCat(Below(path, "state."), index),
                                 IdentityOfBytes(parameter));
      ++k;
    }
  }
}

absl::StatusOr<StateDict> ToStateDict(const StateValue& value) {
  Converter converter({});
  CKPT_ASSIGN_OR_RETURN(StateValue converted, converter.Convert(value, ""));
  StateDict* dict = converted.If<StateDict>();
  if (dict == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(value.KindName(), " has no state dictionary"));
  }
  return std::move(*dict);
}

}  // namespace ckpt
