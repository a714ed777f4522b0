#include "client/torch/load.h"

#include <algorithm>
#include <exception>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "client/torch/checkpoint_tree.h"
#include "client/torch/convert.h"
#include "client/torch/load_plan.h"
#include "client/torch/load_rules.h"
#include "client/torch/module_entries.h"
#include "client/torch/selected_boxes.h"
#include "client/torch/tensor_bytes.h"
#include "common/safetensors.h"
#include "common/status_macros.h"

namespace ckpt {

namespace internal {
class StoredTensorSource {
 public:
  StoredTensorSource(std::shared_ptr<RestorePlan> plan, SelectedBoxes boxes)
      : plan_(std::move(plan)), boxes_(std::move(boxes)) {}
  RestorePlan& plan() { return *plan_; }
  const v1::Leaf& leaf(uint32_t leaf_number) const { return plan_->leaves()[leaf_number].leaf(); }
  absl::StatusOr<Box> RegionOf(uint32_t leaf_number) const { return boxes_.Of(leaf(leaf_number)); }

 private:
  std::shared_ptr<RestorePlan> plan_;
  const SelectedBoxes boxes_;
};
}  // namespace internal

StoredTensor::StoredTensor(std::shared_ptr<internal::StoredTensorSource> source,
                           uint32_t leaf_number)
    : source_(std::move(source)), leaf_number_(leaf_number) {}

v1::DType StoredTensor::dtype() const { return source_->leaf(leaf_number_).dtype(); }

std::vector<int64_t> StoredTensor::shape() const {
  if (const absl::StatusOr<Box> region = source_->RegionOf(leaf_number_); region.ok()) {
    return std::vector<int64_t>(region->extent.begin(), region->extent.end());
  }
  const auto& shape = source_->leaf(leaf_number_).shape();
  return std::vector<int64_t>(shape.begin(), shape.end());
}

absl::StatusOr<at::Tensor> StoredTensor::Read() const {
  CKPT_ASSIGN_OR_RETURN(const c10::ScalarType type, ScalarTypeOf(dtype()));
  CKPT_ASSIGN_OR_RETURN(const Box region, source_->RegionOf(leaf_number_));
  try {
    at::Tensor tensor = NewTensor(type, region.extent);
    if (region.empty()) return tensor;
    const ReadTarget target{leaf_number_, region, static_cast<std::byte*>(tensor.data_ptr())};
    CKPT_RETURN_IF_ERROR(source_->plan().Read({&target, 1}));
    return tensor;
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("LibTorch failed: ", error.what()));
  }
}

namespace {

using Asked = LoadPlan::Asked;
using Kind = CheckpointNode::Kind;

// Compares the caller's state with the checkpoint's tree, value by value.
class Matcher {
 public:
  // `narrowed`: null where the plan has everything.
  Matcher(LoadPlan& plan, const NarrowedPlan* narrowed) : plan_(plan), narrowed_(narrowed) {}

  // What is missing may be so for want of a plan of everything.
  bool missed() const { return missed_; }

  void Match(StateValue& value, CheckpointNode& node) {
    if (ModuleState* module = value.If<ModuleState>()) return MatchModule(*module, node);
    if (auto** optimizer = value.If<torch::optim::Optimizer*>()) {
      return PlanOptimizerLoad(**optimizer, nullptr, node, plan_);
    }
    if (ShardedOptimizer* sharded = value.If<ShardedOptimizer>()) {
      // Checks the description as well.
      if (const auto described = OptimizerToState(*sharded); !described.ok()) {
        return plan_.Problem(node.printed, described.status().message());
      }
      return PlanOptimizerLoad(*sharded->optimizer, sharded, node, plan_);
    }
    if (Stateful** object = value.If<Stateful*>()) return MatchStateful(*object, node);
    if (Sharded* sharded = value.If<Sharded>()) {
      if (const absl::Status fits = CheckSharded(*sharded); !fits.ok()) {
        return plan_.Problem(node.printed, fits.message());
      }
      return plan_.WantBox(node, sharded->local, ToExtents(sharded->global_shape),
                           Box{ToExtents(sharded->offset), ShapeOf(sharded->local)});
    }
    if (at::Tensor* tensor = value.If<at::Tensor>(); tensor && tensor->defined()) {
      return plan_.WantWhole(node, *tensor);
    }
    if (StateDict* dict = value.If<StateDict>(); dict && !dict->empty()) {
      return MatchDict(*dict, node);
    }
    if (StateList* list = value.If<StateList>(); list && HoldsObjects(*list)) {
      return MatchList(*list, node);
    }
    Replace(value, node);
  }

 private:
  void MatchModule(ModuleState& module, CheckpointNode& node) {
    node.taken = true;
    auto entries = ModuleEntries(module);
    if (!entries.ok()) return plan_.Problem(node.printed, entries.status().message());
    if (node.kind != Kind::kDict) return plan_.Mismatched(node, "expected a module's state");
    plan_.RenameChildren(node, /*is_module=*/true);
    std::vector<std::string> missing;
    std::vector<std::string> unexpected;
    for (const ModuleEntry& entry : *entries) {
      if (CheckpointNode* stored = node.Find(entry.name)) {
        plan_.WantWhole(*stored, entry.tensor);
      } else {
        plan_.Missing(node, entry.name, Asked::kModuleName);
        missing.push_back(entry.name);
      }
    }
    const auto own_names = [&entries] {
      std::vector<std::string> names;
      for (const ModuleEntry& entry : *entries) names.push_back(entry.name);
      return names;
    };
    for (const auto& child : node.children) {
      if (child->taken) continue;
      // Not a parameter: what an imported safetensors file says of itself.
      const bool file_note = node.root && child->printed == kSafetensorsMetadata;
      if (file_note) {
        plan_.Keep(*child);
        continue;
      }
      plan_.Unexpected(*child, own_names);
      unexpected.push_back(child->key.ToString());
    }
    const std::string rename = PrefixThatFits(missing, unexpected);
    if (rename.empty()) return;
    plan_.Hint(absl::StrCat("LoadOptions::renames = {", rename, "} would find all names of ",
                            node.root ? "the module" : node.printed));
  }

  void MatchStateful(Stateful* object, CheckpointNode& node) {
    if (object == nullptr) return plan_.Problem(node.printed, "the object is null");
    if (node.kind != Kind::kDict) return plan_.Mismatched(node, "expected an object's state");
    plan_.WantRaw(node);
    plan_.OnCommit([this_plan = &plan_, object, &node]() -> absl::Status {
      const StateValue value = this_plan->RawValue(node);
      const absl::Status loaded = object->LoadState(*value.If<StateDict>());
      if (loaded.ok()) return loaded;
      return absl::Status(loaded.code(), absl::StrCat(node.printed, ": ", loaded.message()));
    });
  }

  void MatchDict(StateDict& dict, CheckpointNode& node) {
    if (node.kind != Kind::kDict) return plan_.Mismatched(node, "expected a dictionary");
    plan_.RenameChildren(node, /*is_module=*/false);
    for (StateEntry& entry : dict) {
      if (node.root) plan_.set_top_level(entry.key.ToString());
      if (CheckpointNode* child = node.Find(entry.key)) {
        Match(entry.value, *child);
      } else {
        missed_ |= narrowed_ != nullptr && narrowed_->partial.contains(node.printed);
        plan_.Missing(node, entry.key.ToString(), Asked::kKey);
      }
    }
  }

  void MatchList(StateList& list, CheckpointNode& node) {
    if (node.kind != Kind::kList) return plan_.Mismatched(node, "expected a list");
    for (size_t i = 0; i < list.size(); ++i) {
      if (CheckpointNode* child = node.Find(static_cast<int64_t>(i))) {
        Match(list[i], *child);
      } else {
        plan_.Missing(node.printed, std::to_string(i), Asked::kKey, LoadPlan::NoNames);
      }
    }
  }

  // Plain values and placeholders: whatever the checkpoint has takes their place.
  void Replace(StateValue& value, CheckpointNode& node) {
    plan_.WantRaw(node);
    plan_.OnCommit([this_plan = &plan_, target = &value, &node] {
      if (node.lost) return absl::OkStatus();  // the caller's own stays
      StateValue loaded = this_plan->RawValue(node);
      loaded.set_placement(target->placement());
      *target = std::move(loaded);
      return absl::OkStatus();
    });
  }

  // A list of plain values is one value; a list with something to restore in place is walked.
  static bool HoldsObjects(const StateList& list) {
    return std::any_of(list.begin(), list.end(), [](const StateValue& item) {
      if (const StateList* inner = item.If<StateList>()) return HoldsObjects(*inner);
      if (const StateDict* inner = item.If<StateDict>()) return HoldsObjects(*inner);
      return !item.is_plain() && item.If<StoredTensor>() == nullptr;
    });
  }
  static bool HoldsObjects(const StateDict& dict) {
    return std::any_of(dict.begin(), dict.end(), [](const StateEntry& entry) {
      StateList one;
      one.Add(entry.value);
      return HoldsObjects(one);
    });
  }

  LoadPlan& plan_;
  const NarrowedPlan* const narrowed_;
  bool missed_ = false;
};

// Takes containers back that hold something which is kept. True: `node` is or holds such.
bool TakeBack(CheckpointNode& node, bool below_kept = false) {
  node.kept |= below_kept;
  bool holds = node.kept;
  for (const auto& child : node.children) holds |= TakeBack(*child, node.kept);
  if (holds) node.taken = false;
  return holds;
}

// What nobody took. Step 1, before Check: read what shall be read.
void GatherRemainder(CheckpointNode& node, const LoadOptions& options, LoadPlan& plan,
                     std::vector<CheckpointNode*>& wanted) {
  if (node.taken) return;
  for (const auto& child : node.children) GatherRemainder(*child, options, plan, wanted);
  if (node.kind != Kind::kLeaf) return;
  if (node.needs_rank_rule) {
    node.taken = true;
    plan.LeftToOtherRanks(node.printed);
    return;
  }
  const v1::LeafKind kind = node.leaf->leaf().kind();
  const bool lazy = options.remainder == LoadOptions::Remainder::kLazy ||
                    !ScalarTypeOf(node.leaf->leaf().dtype()).ok();
  if (kind == v1::LEAF_KIND_TENSOR && lazy) return;
  // Where it is lost, and may be: left to whoever looks at it, or out.
  const absl::StatusOr<Box> region = plan.RegionOf(node);
  const bool lost = kind != v1::LEAF_KIND_VALUE && region.ok() && !plan.Readable(node, *region);
  if (!lost) wanted.push_back(&node);
}

// Step 2, after Commit. Null where nothing is left.
std::optional<StateValue> BuildRemainder(
    const CheckpointNode& node, const absl::flat_hash_set<const CheckpointNode*>& read,
    const LoadPlan& plan, const std::shared_ptr<internal::StoredTensorSource>& source) {
  if (node.kind == Kind::kLeaf) {
    if (read.contains(&node)) return plan.RawValue(node);
    if (node.taken) return std::nullopt;
    return StateValue(StoredTensor(source, node.leaf->leaf_number()));
  }
  if (node.taken) return std::nullopt;
  StateDict rest;
  for (const auto& child : node.children) {
    auto value = BuildRemainder(*child, read, plan, source);
    if (value) rest[child->key] = *std::move(value);
  }
  const bool whole = rest.size() == node.children.size();
  if (node.kind == Kind::kList && whole) {
    StateList list;
    for (StateEntry& entry : rest) list.Add(std::move(entry.value));
    return StateValue(std::move(list));
  }
  if (rest.empty() && !whole) return std::nullopt;
  return StateValue(std::move(rest));
}

absl::StatusOr<std::optional<uint32_t>> PerRankSource(const RestorePlan& plan, LoadingRank rank,
                                                      const LoadOptions& options) {
  const uint32_t stored = plan.checkpoint().world_size();
  if (options.per_rank_source == LoadOptions::kOwnRankWrapped) return rank.rank % stored;
  if (options.per_rank_source) {
    if (*options.per_rank_source >= stored) {
      return absl::InvalidArgumentError(absl::StrCat(
          "per_rank_source is ", *options.per_rank_source, ", but ", plan.checkpoint().id().run(),
          "@", plan.checkpoint().id().step(), " has ", stored, " ranks"));
    }
    return options.per_rank_source;
  }
  if (rank.world_size == stored) return std::optional<uint32_t>(rank.rank);
  return std::optional<uint32_t>();
}

// What lies beside the path is nobody's: neither the object's nor the remainder's.
absl::StatusOr<CheckpointNode*> FindPath(CheckpointNode& root, const std::vector<StateKey>& path,
                                         RestorePlan& plan) {
  CheckpointNode* node = &root;
  for (const StateKey& key : path) {
    CheckpointNode* child = node->Find(key);
    if (child == nullptr) {
      LoadPlan complaint(LoadRules(), plan);
      if (node->needs_rank_rule) {
        complaint.Mismatched(*node, "");
      } else {
        complaint.Missing(*node, key.ToString(), Asked::kKey);
      }
      return complaint.Check();
    }
    for (const auto& beside : node->children) beside->taken |= beside.get() != child;
    node = child;
  }
  return node;
}

}  // namespace

absl::StatusOr<LoadResult> LoadInto(std::shared_ptr<RestorePlan> plan, LoadingRank rank,
                                    StateValue& value, const std::vector<StateKey>& path,
                                    const LoadOptions& options, const NarrowedPlan* narrowed) {
  if (options.report != nullptr) *options.report = {};
  CKPT_ASSIGN_OR_RETURN(LoadRules rules, LoadRules::Compile(options));
  CKPT_ASSIGN_OR_RETURN(const std::optional<uint32_t> source, PerRankSource(*plan, rank, options));
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<CheckpointNode> root,
                        BuildCheckpointTree(plan->leaves(), source));
  const auto load_by_whole_plan = [&]() -> absl::StatusOr<LoadResult> {
    CKPT_ASSIGN_OR_RETURN(std::shared_ptr<RestorePlan> whole, narrowed->whole(*plan));
    return LoadInto(std::move(whole), rank, value, path, options);
  };
  const absl::StatusOr<CheckpointNode*> node = FindPath(*root, path, *plan);
  if (!node.ok()) {
    if (narrowed != nullptr) return load_by_whole_plan();
    return node.status();
  }
  const SelectedBoxes boxes(options.restore.selection);
  LoadPlan load(std::move(rules), *plan, boxes);
  if (!path.empty()) load.set_top_level(path[0].ToString());
  // An empty dictionary at the top asks for nothing: all is remainder.
  const StateDict* top = value.If<StateDict>();
  const bool asks_nothing = path.empty() && top != nullptr && top->empty();
  Matcher matcher(load, narrowed);
  if (!asks_nothing) matcher.Match(value, **node);
  if (matcher.missed()) return load_by_whole_plan();  // nothing has been touched
  if (load.keeps_any()) TakeBack(*root);
  std::vector<CheckpointNode*> wanted;
  if (options.remainder != LoadOptions::Remainder::kDrop) {
    GatherRemainder(*root, options, load, wanted);
  }
  for (CheckpointNode* leaf : wanted) load.WantRaw(*leaf, /*asked_for=*/false);
  absl::Status status = load.Check();
  if (status.ok()) status = load.Read();
  if (status.ok()) status = load.Commit();
  LoadResult result;
  result.report = load.TakeReport();
  result.report.planned = plan->summary();
  if (options.report != nullptr) *options.report = result.report;
  if (!status.ok()) return status;
  result.checkpoint = plan->checkpoint();
  if (options.remainder != LoadOptions::Remainder::kDrop) {
    const auto stored = std::make_shared<internal::StoredTensorSource>(plan, boxes);
    auto rest = BuildRemainder(*root, {wanted.begin(), wanted.end()}, load, stored);
    if (rest && rest->If<StateDict>()) result.remainder = std::move(*rest->If<StateDict>());
  }
  return result;
}

absl::StatusOr<StateDict> LoadRaw(RestorePlan& plan, LoadingRank rank, const LoadOptions& options) {
  CKPT_ASSIGN_OR_RETURN(LoadRules rules, LoadRules::Compile(options));
  CKPT_ASSIGN_OR_RETURN(const std::optional<uint32_t> source, PerRankSource(plan, rank, options));
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<CheckpointNode> root,
                        BuildCheckpointTree(plan.leaves(), source));
  LoadPlan load(std::move(rules), plan, SelectedBoxes(options.restore.selection));
  load.WantRaw(*root);
  CKPT_RETURN_IF_ERROR(load.Check());
  CKPT_RETURN_IF_ERROR(load.Read());
  StateValue whole = load.RawValue(*root);
  return std::move(*whole.If<StateDict>());
}

}  // namespace ckpt
