// PyTorch's layout back into a LibTorch optimizer, as load_state_dict() does: parameters are
// matched by their position in their group, state that the checkpoint lacks is removed,
// hyperparameters are replaced. Tensors that exist are read in place.
#include <ATen/ops/empty_like.h>
#include <torch/optim/optimizer.h>

#include <cmath>
#include <exception>
#include <optional>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "client/torch/load_plan.h"
#include "client/torch/optimizer_codec.h"
#include "client/torch/tensor_bytes.h"

namespace ckpt {
namespace {

using Asked = LoadPlan::Asked;
using torch::optim::Optimizer;
using torch::optim::OptimizerOptions;
using torch::optim::OptimizerParamState;

class OptimizerLoader {
 public:
  OptimizerLoader(Optimizer& optimizer, const ShardedOptimizer* sharded,
                  const OptimizerCodec& codec, LoadPlan& plan)
      : optimizer_(optimizer), sharded_(sharded), codec_(codec), plan_(plan) {}

  void Plan(CheckpointNode& node) {
    CheckpointNode* groups = node.Find("param_groups");
    CheckpointNode* state = node.Find("state");
    if (groups == nullptr) {
      plan_.Missing(node, "param_groups", Asked::kKey);
    }
    // Absent where every rank's share of a sharded optimizer was empty, too.
    const bool without_state = state == nullptr && sharded_ == nullptr;
    if (without_state) plan_.Missing(node, "state", Asked::kKey);
    if (groups == nullptr) return;
    if (!PlanGroups(*groups) || without_state) return;
    const std::vector<int64_t> saved = SavedIndices();
    if (state != nullptr) ReadSteps(*state, saved);
    size_t k = 0;
    for (size_t g = 0; g < optimizer_.param_groups().size(); ++g) {
      for (const at::Tensor& parameter : optimizer_.param_groups()[g].params()) {
        PlanParameter(state, parameter, saved[k], *new_options_[g],
                      sharded_ ? &sharded_->parameters[k] : nullptr);
        ++k;
      }
    }
  }

 private:
  // Hyperparameters and the indices of each group's parameters. False after a Problem.
  bool PlanGroups(CheckpointNode& groups) {
    plan_.NotePlain(groups);
    const StateValue value = LoadPlan::PlainValue(groups);
    const StateList* list = value.If<StateList>();
    const size_t count = optimizer_.param_groups().size();
    if (list == nullptr || list->size() != count) {
      plan_.Problem(groups.printed, absl::StrCat("the checkpoint has ", list ? list->size() : 0,
                                                 " parameter groups, the optimizer ", count));
      return false;
    }
    for (size_t g = 0; g < count; ++g) {
      CheckpointNode* lr = FindScalarTensor(groups, g, "lr");
      if (!PlanGroup((*list)[g], lr, g, absl::StrCat(groups.printed, ".", g))) return false;
    }
    return true;
  }

  static CheckpointNode* FindScalarTensor(const CheckpointNode& groups, size_t g,
                                          const char* name) {
    const CheckpointNode* group = groups.Find(static_cast<int64_t>(g));
    CheckpointNode* node = group == nullptr ? nullptr : group->Find(name);
    if (node == nullptr || node->needs_rank_rule || !node->is_tensor()) return nullptr;
    const v1::Leaf& leaf = node->leaf->leaf();
    const auto type = ScalarTypeOf(leaf.dtype());
    const Extents shape(leaf.shape().begin(), leaf.shape().end());
    return type.ok() && c10::isFloatingType(*type) && Volume(shape) == 1u ? node : nullptr;
  }

  // PyTorch 2 takes a tensor as a learning rate, too: what it holds is known when all is read.
  void TakeLearningRate(CheckpointNode& lr, size_t g) {
    const v1::Leaf& leaf = lr.leaf->leaf();
    const Extents shape(leaf.shape().begin(), leaf.shape().end());
    if (!plan_.Readable(lr, Box::Whole(shape))) return;  // the optimizer's own stays
    const at::Tensor read = NewTensor(*ScalarTypeOf(leaf.dtype()), shape);
    plan_.Take(lr, read, Box::Whole(shape), /*callers=*/false);
    plan_.OnCommit([group = &optimizer_.param_groups()[g], read] {
      group->options().set_lr(read.item().toDouble());
      return absl::OkStatus();
    });
  }

  bool PlanGroup(const StateValue& value, CheckpointNode* lr, size_t g,
                 const std::string& printed) {
    const StateDict* group = value.If<StateDict>();
    const StateValue* params = group == nullptr ? nullptr : group->Find("params");
    const StateList* indices = params == nullptr ? nullptr : params->If<StateList>();
    if (indices == nullptr) {
      plan_.Problem(printed, "not a parameter group: no list `params`");
      return false;
    }
    const size_t wanted =
        sharded_ ? sharded_->groups[g].size() : optimizer_.param_groups()[g].params().size();
    if (indices->size() != wanted) {
      plan_.Problem(printed, absl::StrCat("the checkpoint's group has ", indices->size(),
                                          " parameters, the optimizer's ", wanted));
      return false;
    }
    std::vector<int64_t>& saved = saved_indices_.emplace_back();
    for (const StateValue& index : *indices) {
      if (!index.AsInt().ok()) {
        plan_.Problem(printed, "not a parameter group: `params` holds something else than indices");
        return false;
      }
      saved.push_back(*index.AsInt());
    }
    std::optional<StateDict> with_number;
    if (lr != nullptr) {
      with_number = *group;
      (*with_number)["lr"] = optimizer_.param_groups()[g].options().get_lr();
      group = &*with_number;
    }
    std::vector<std::string> missing;
    auto options = codec_.OptionsFromState(*group, optimizer_.param_groups()[g].options(), missing);
    if (!options.ok()) {
      plan_.Problem(printed, options.status().message());
      return false;
    }
    for (const std::string& name : missing) {
      plan_.Missing(printed, name, Asked::kModuleName, [group] {
        std::vector<std::string> names;
        for (const StateEntry& entry : *group) names.push_back(entry.key.ToString());
        return names;
      });
    }
    new_options_.push_back(std::move(*options));
    plan_.OnCommit([this_group = &optimizer_.param_groups()[g], options = new_options_.back()] {
      this_group->set_options(options->clone());
      return absl::OkStatus();
    });
    if (lr != nullptr) TakeLearningRate(*lr, g);
    return true;
  }

  // By parameter of the optimizer: under which index the checkpoint has its state.
  std::vector<int64_t> SavedIndices() const {
    std::vector<int64_t> saved;
    for (size_t g = 0; g < optimizer_.param_groups().size(); ++g) {
      for (size_t i = 0; i < optimizer_.param_groups()[g].params().size(); ++i) {
        saved.push_back(sharded_ == nullptr
                            ? saved_indices_[g][i]
                            : SavedIndex(g, sharded_->parameters[saved.size()].index));
      }
    }
    return saved;
  }

  int64_t SavedIndex(size_t g, int64_t described_index) const {
    const std::vector<int64_t>& indices = sharded_->groups[g];
    for (size_t i = 0; i < indices.size(); ++i) {
      if (indices[i] == described_index) return saved_indices_[g][i];
    }
    return -1;  // CheckDescription has refused this
  }

  // Whether a step is one has to be known before anything is touched: all of them are read at once.
  void ReadSteps(const CheckpointNode& states, const std::vector<int64_t>& saved) {
    if (codec_.Step(*codec_.NewState()) == nullptr) return;
    std::vector<const CheckpointNode*> nodes;
    for (const int64_t index : saved) {
      const CheckpointNode* state = states.Find(index);
      const CheckpointNode* step = state == nullptr ? nullptr : state->Find("step");
      if (step != nullptr && IsOneNumber(*step)) nodes.push_back(step);
    }
    const std::vector<at::Tensor> tensors = plan_.ReadAhead(nodes);
    for (size_t i = 0; i < nodes.size(); ++i) {
      if (tensors[i].defined()) steps_.emplace(nodes[i], tensors[i]);
    }
  }

  // As a tensor.
  static bool IsOneNumber(const CheckpointNode& node) {
    if (!node.is_tensor() || node.needs_rank_rule) return false;
    const v1::Leaf& leaf = node.leaf->leaf();
    const auto type = ScalarTypeOf(leaf.dtype());
    return type.ok() && !c10::isComplexType(*type) &&
           Volume(Extents(leaf.shape().begin(), leaf.shape().end())) == 1u;
  }

  void PlanParameter(CheckpointNode* states, const at::Tensor& parameter, int64_t saved_index,
                     const OptimizerOptions& options,
                     const ShardedOptimizer::Parameter* described) {
    CheckpointNode* node = states == nullptr ? nullptr : states->Find(saved_index);
    if (node == nullptr) {
      if (codec_.always_has_state() && states != nullptr) {
        plan_.Missing(states->printed, std::to_string(saved_index), Asked::kModuleName,
                      LoadPlan::NoNames);
      } else {
        Remove(parameter);
      }
      return;
    }
    if (node->kind != CheckpointNode::Kind::kDict) {
      return plan_.Mismatched(*node, "the state of a parameter is not a dictionary");
    }
    // The new state shares the tensors of the old one where it has them: read in place.
    OptimizerParamState* old = FindParamState(optimizer_, parameter);
    std::shared_ptr<OptimizerParamState> fresh(codec_.NewState());
    if (old != nullptr) fresh = old->clone();
    // All of it or nothing: moments of one step beside those of another are nobody's state.
    bool complete = true;
    std::vector<AcceptedField> accepted;
    for (OptimizerTensorField& field : codec_.Tensors(*fresh, options)) {
      complete &= AcceptTensor(*node, field, parameter, described, accepted);
    }
    CheckpointNode* step = nullptr;
    complete &= AcceptStep(*node, *fresh, described, step);
    for (const auto& child : node->children) {
      if (!child->taken) plan_.Unexpected(*child, LoadPlan::NoNames);
    }
    if (!complete) return;  // complained of; where that is tolerated, the old state stays
    if (accepted.empty()) return Remove(parameter);
    for (const AcceptedField& field : accepted) {
      plan_.Take(*field.stored, field.tensor, field.region, /*callers=*/!field.is_new);
    }
    if (step != nullptr) TakeStep(*step, fresh);
    plan_.OnCommit([optimizer = &optimizer_, parameter, fresh] {
      SetParamState(*optimizer, parameter, fresh->clone());
      return absl::OkStatus();
    });
  }

  struct AcceptedField {
    const CheckpointNode* stored;
    at::Tensor tensor;
    Box region;
    bool is_new;  // the optimizer gets it when all is read
  };

  // False after a complaint. Adds to `accepted` what the checkpoint has.
  bool AcceptTensor(CheckpointNode& node, const OptimizerTensorField& field,
                    const at::Tensor& parameter, const ShardedOptimizer::Parameter* described,
                    std::vector<AcceptedField>& accepted) {
    CheckpointNode* stored = node.Find(field.name);
    const bool is_null = stored != nullptr && !stored->is_tensor() && !stored->needs_rank_rule &&
                         LoadPlan::PlainValue(*stored).is_null();
    if (is_null) stored->taken = true;
    if (stored == nullptr || is_null) {
      if (field.required) {
        plan_.Missing(node, field.name, Asked::kModuleName);
      } else {
        *field.tensor = at::Tensor();
      }
      return !field.required;
    }
    const bool is_new = !field.tensor->defined();
    if (is_new) {
      *field.tensor =
          at::empty_like(parameter.detach(), at::TensorOptions(), at::MemoryFormat::Preserve);
    }
    const Extents shape = ShapeOf(*field.tensor);
    const Extents global = described ? ToExtents(described->global_shape) : shape;
    const Box region =
        described ? Box{ToExtents(described->offset), shape} : Box::Whole(shape);
    if (!plan_.Accepts(*stored, *field.tensor, global, region)) return false;
    accepted.push_back({stored, *field.tensor, region, is_new});
    return true;
  }

  // False after a complaint. `stored` stays null where there is no step to be taken.
  bool AcceptStep(CheckpointNode& node, OptimizerParamState& fresh,
                  const ShardedOptimizer::Parameter* described, CheckpointNode*& stored) {
    if (codec_.Step(fresh) == nullptr) return true;
    CheckpointNode* found = node.Find("step");
    if (found == nullptr) {
      // Nobody holds the first element of a parameter without elements.
      const bool nobodys = described != nullptr && Volume(ToExtents(described->global_shape)) == 0u;
      if (!nobodys) plan_.Missing(node, "step", Asked::kModuleName);
      return nobodys;
    }
    found->taken = true;
    if (found->kind != CheckpointNode::Kind::kLeaf) {
      plan_.Mismatched(*found, "expected a number");
      return false;
    }
    if (found->is_tensor() && !found->needs_rank_rule) {
      const auto& shape = found->leaf->leaf().shape();
      if (!plan_.Readable(*found, Box::Whole(Extents(shape.begin(), shape.end())))) return false;
    }
    if (!IsLeftToRead(*found)) {
      const StateValue value = ValueOf(*found);
      const std::optional<int64_t> steps = StepsOf(value);
      if (!steps) {
        plan_.Mismatched(*found, NotSteps(value));
        return false;
      }
      *codec_.Step(fresh) = *steps;
    }
    stored = found;
    return true;
  }

  // AcceptStep has set it, unless it is known only when all is read.
  void TakeStep(CheckpointNode& stored, const std::shared_ptr<OptimizerParamState>& fresh) {
    if (!IsLeftToRead(stored)) return plan_.Restored(stored);
    plan_.WantRaw(stored);
    plan_.OnCommit([&plan = plan_, &codec = codec_, &stored, fresh]() -> absl::Status {
      const StateValue value = plan.RawValue(stored);
      const std::optional<int64_t> steps = StepsOf(value);
      if (!steps) {
        return absl::InvalidArgumentError(absl::StrCat(stored.printed, ": ", NotSteps(value)));
      }
      *codec.Step(*fresh) = *steps;
      return absl::OkStatus();
    });
  }

  // What ReadAhead could not read, Read or Check complains of; a rank rule and a dtype that are
  // missing, WantRaw.
  bool IsLeftToRead(const CheckpointNode& step) const {
    if (step.needs_rank_rule) return true;
    if (!step.is_tensor()) return false;
    return IsOneNumber(step) ? !steps_.contains(&step)
                             : !ScalarTypeOf(step.leaf->leaf().dtype()).ok();
  }

  // Null where it is neither a plain value nor a tensor of one number.
  StateValue ValueOf(const CheckpointNode& step) const {
    const auto read = steps_.find(&step);
    return read == steps_.end() ? LoadPlan::PlainValue(step) : StateValue(read->second);
  }

  static std::optional<double> NumberOf(const StateValue& value) {
    if (const auto number = value.AsDouble(); number.ok()) return *number;
    const at::Tensor* tensor = value.If<at::Tensor>();
    if (tensor == nullptr || tensor->numel() != 1 || tensor->is_complex()) return std::nullopt;
    return tensor->item().toDouble();
  }
  static std::optional<int64_t> StepsOf(const StateValue& value) {
    const double number = NumberOf(value).value_or(-1);
    if (!(number >= 0 && number < std::ldexp(1.0, 53)) || number != std::floor(number)) {
      return std::nullopt;
    }
    return static_cast<int64_t>(number);
  }
  static std::string NotSteps(const StateValue& value) {
    const std::optional<double> number = NumberOf(value);
    return number ? absl::StrCat(*number, " is not a number of steps") : "not a number of steps";
  }

  void Remove(const at::Tensor& parameter) {
    plan_.OnCommit([optimizer = &optimizer_, parameter] {
      SetParamState(*optimizer, parameter, nullptr);
      return absl::OkStatus();
    });
  }

  Optimizer& optimizer_;
  const ShardedOptimizer* sharded_;
  const OptimizerCodec& codec_;
  LoadPlan& plan_;
  std::vector<std::vector<int64_t>> saved_indices_;               // by group and position
  std::vector<std::shared_ptr<OptimizerOptions>> new_options_;    // by group
  absl::flat_hash_map<const CheckpointNode*, at::Tensor> steps_;  // that were read ahead
};

}  // namespace

void PlanOptimizerLoad(Optimizer& optimizer, const ShardedOptimizer* sharded, CheckpointNode& node,
                       LoadPlan& plan) {
  node.taken = true;
  const auto codec = CodecOf(optimizer);
  if (!codec.ok()) return plan.Problem(node.printed, codec.status().message());
  if (node.kind != CheckpointNode::Kind::kDict) {
    return plan.Mismatched(node, "expected an optimizer's state");
  }
  try {
    OptimizerLoader(optimizer, sharded, **codec, plan).Plan(node);
  } catch (const std::exception& error) {
    plan.Problem(node.printed, absl::StrCat("LibTorch failed: ", error.what()));
  }
}

}  // namespace ckpt
