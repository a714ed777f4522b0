#include "client/torch/load_plan.h"

#include <ATen/MemoryOverlap.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <exception>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/torch/tensor_bytes.h"
#include "common/nearest_names.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

using Kind = CheckpointNode::Kind;

// Missing keys that near names are looked up for: comparing each with all names is quadratic.
constexpr size_t kSuggestionsMax = 20;

std::string Describe(absl::string_view dtype, const Extents& shape) {
  return absl::StrCat(dtype, " [", absl::StrJoin(shape, ", "), "]");
}

Extents StoredShape(const CheckpointNode& node) {
  return Extents(node.leaf->leaf().shape().begin(), node.leaf->leaf().shape().end());
}

uint32_t StorageOf(const CheckpointNode& node) {
  return node.leaf->has_alias_of() ? node.leaf->alias_of() : node.leaf->leaf_number();
}

StateValue FromProto(const v1::Value& value) {
  switch (value.kind_case()) {
    case v1::Value::kBoolean:
      return value.boolean();
    case v1::Value::kInteger:
      return static_cast<int64_t>(value.integer());
    case v1::Value::kReal:
      return value.real();
    case v1::Value::kText:
      return value.text();
    case v1::Value::kRaw:
      return Bytes{value.raw()};
    default:
      return StateValue();
  }
}

template <typename LeafValue>
StateValue BuildValue(const CheckpointNode& node, const LeafValue& leaf_value) {
  if (node.kind == Kind::kLeaf) return leaf_value(node);
  if (node.kind == Kind::kList) {
    StateList list;
    for (const auto& child : node.children) list.Add(BuildValue(*child, leaf_value));
    return list;
  }
  StateDict dict;
  for (const auto& child : node.children) dict[child->key] = BuildValue(*child, leaf_value);
  return dict;
}

// Where they certainly do: LibTorch copies into no tensor that has a stride of 0, and into others
// one element over the other.
bool ElementsShareMemory(const at::Tensor& tensor) {
  if (tensor.numel() == 0) return false;
  int64_t span = 1;
  for (int64_t d = 0; d < tensor.dim(); ++d) span += (tensor.size(d) - 1) * tensor.stride(d);
  return tensor.numel() > span || at::has_internal_overlap(tensor) == at::MemOverlap::Yes;
}

// With those of `candidates` that are nearest, while there are few complaints.
std::string WithNearest(const std::string& printed, const std::string& name, size_t complaints,
                        LoadPlan::Names candidates) {
  if (complaints >= kSuggestionsMax) return printed;
  const std::vector<std::string> nearest = NearestNames(name, candidates(), 3);
  return nearest.empty() ? printed
                         : absl::StrCat(printed, " (nearest: ", absl::StrJoin(nearest, ", "), ")");
}

}  // namespace

void LoadPlan::WantWhole(CheckpointNode& node, const at::Tensor& target) {
  const Extents shape = ShapeOf(target);
  if (node.is_tensor()) {
    const absl::StatusOr<Box> selected = RegionOf(node);
    if (selected.ok() && selected->extent == shape) {
      return WantBox(node, target, StoredShape(node), *selected);
    }
  }
  WantBox(node, target, shape, Box::Whole(shape));
}

void LoadPlan::WantBox(CheckpointNode& node, const at::Tensor& target, const Extents& global_shape,
                       const Box& region) {
  if (Accepts(node, target, global_shape, region)) Take(node, target, region);
}

bool LoadPlan::Accepts(CheckpointNode& node, const at::Tensor& target, const Extents& global_shape,
                       const Box& region) {
  node.taken = true;
  if (absl::Status status = CheckStorable(target); !status.ok()) {
    Problem(node.printed, status.message());
    return false;
  }
  if (ElementsShareMemory(target)) {
    Problem(node.printed,
            "elements of the tensor share memory (an expanded view, or windows that overlap), so "
            "nothing can be loaded into it: give a tensor of its own, by clone() or contiguous()");
    return false;
  }
  const DType wanted = *DTypeOf(target.scalar_type());
  if (node.needs_rank_rule || !node.is_tensor()) {
    Mismatched(node, absl::StrCat("the checkpoint has no tensor here, expected ",
                                  Describe(DTypeName(wanted), global_shape)));
    return false;
  }
  const v1::Leaf& leaf = node.leaf->leaf();
  const bool shapes_equal = StoredShape(node) == global_shape;
  const bool cast =
      leaf.dtype() != wanted &&
      rules_.For(LoadRules::Case::kMismatched, FactsOfNode(node)) == LoadRules::Action::kCast;
  if (!shapes_equal || (leaf.dtype() != wanted && !cast)) {
    Mismatched(node,
               absl::StrCat("stored as ", Describe(DTypeName(leaf.dtype()), StoredShape(node)),
                            ", expected ", Describe(DTypeName(wanted), global_shape)));
    return false;
  }
  // However the checkpoint is cut: beside the slice there may be bytes in the plan, or not.
  if (const auto selected = RegionOf(node);
      selected.ok() && !region.empty() && !Contains(*selected, region)) {
    Mismatched(node, absl::StrCat("a slice of the selection takes ", selected->ToString(),
                                  " of it, and ", region.ToString(), " is to be loaded"));
    return false;
  }
  const auto stored_type = ScalarTypeOf(leaf.dtype());
  if (!stored_type.ok()) Problem(node.printed, stored_type.status().message());
  return stored_type.ok() && Readable(node, region);
}

bool LoadPlan::Readable(CheckpointNode& node, const Box& region) {
  if (node.lost) return false;
  if (!plan_.has_unreadable() || region.empty()) return true;
  std::byte nowhere;  // only the check of a read wants it
  const ReadTarget target{node.leaf->leaf_number(), region, &nowhere};
  const absl::Status lost = plan_.Check({&target, 1});
  if (!absl::IsDataLoss(lost)) return true;
  const LoadRules::Action action = rules_.For(LoadRules::Case::kUnreadable, FactsOfNode(node));
  if (action == LoadRules::Action::kError) return true;  // Check complains of it with the rest
  node.lost = true;
  report_.unreadable.push_back(absl::StrCat(node.printed, ": ", lost.message()));
  if (action == LoadRules::Action::kKeep) {
    Keep(node);
  } else {
    node.taken = true;
  }
  return false;
}

void LoadPlan::Take(const CheckpointNode& node, const at::Tensor& target, const Box& region,
                    bool callers) {
  Restored(node);
  const v1::Leaf& leaf = node.leaf->leaf();
  if (const DType wanted = *DTypeOf(target.scalar_type()); wanted != leaf.dtype()) {
    report_.cast.push_back(absl::StrCat(node.printed, ": ", std::string(DTypeName(leaf.dtype())),
                                        " to ", std::string(DTypeName(wanted))));
  }
  reads_.Into(target, node.leaf->leaf_number(), region, *ScalarTypeOf(leaf.dtype()), callers);
}

void LoadPlan::WantRaw(CheckpointNode& node, bool asked_for) {
  node.taken = true;
  for (const auto& child : node.children) WantRaw(*child, asked_for);
  if (node.kind != Kind::kLeaf) return;
  if (node.needs_rank_rule) {
    needs_rank_rule_.push_back(node.printed);
    return;
  }
  const v1::Leaf& leaf = node.leaf->leaf();
  if (leaf.kind() == v1::LEAF_KIND_VALUE) {
    if (asked_for) Restored(node);
    return;
  }
  const auto type =
      leaf.kind() == v1::LEAF_KIND_TENSOR ? ScalarTypeOf(leaf.dtype()) : c10::ScalarType::Byte;
  if (!type.ok()) return Problem(node.printed, type.status().message());
  const absl::StatusOr<Box> region = RegionOf(node);
  if (!region.ok()) return Problem(node.printed, region.status().message());
  if (!Readable(node, *region)) return;
  if (asked_for) Restored(node);
  // Names of one stored tensor share one tensor again.
  const uint32_t stored = StorageOf(node);
  const auto [found, is_new] = raw_.emplace(std::pair(stored, *region), at::Tensor());
  if (is_new) found->second = reads_.Own(stored, *region, *type);
}

StateValue LoadPlan::RawValue(const CheckpointNode& node) const {
  return BuildValue(node, [this](const CheckpointNode& leaf) -> StateValue {
    const v1::LeafKind kind = leaf.leaf->leaf().kind();
    if (kind == v1::LEAF_KIND_VALUE) return FromProto(leaf.leaf->value());
    const absl::StatusOr<Box> region = RegionOf(leaf);
    if (!region.ok()) return StateValue();
    const auto found = raw_.find(std::pair(StorageOf(leaf), *region));
    if (found == raw_.end()) return StateValue();
    if (kind == v1::LEAF_KIND_TENSOR) return found->second;
    std::string bytes(static_cast<const char*>(found->second.data_ptr()),
                      static_cast<size_t>(found->second.numel()));
    if (kind == v1::LEAF_KIND_STRING_BYTES) return bytes;
    return Bytes{std::move(bytes)};
  });
}

StateValue LoadPlan::PlainValue(const CheckpointNode& node) {
  return BuildValue(node, [](const CheckpointNode& leaf) {
    return leaf.leaf->leaf().kind() == v1::LEAF_KIND_VALUE ? FromProto(leaf.leaf->value())
                                                           : StateValue();
  });
}

void LoadPlan::NotePlain(CheckpointNode& node) {
  node.taken = true;
  for (const auto& child : node.children) NotePlain(*child);
  if (node.kind != Kind::kLeaf) return;
  if (node.needs_rank_rule) {
    needs_rank_rule_.push_back(node.printed);
  } else if (!node.is_tensor()) {
    Restored(node);
  }
}

std::vector<at::Tensor> LoadPlan::ReadAhead(absl::Span<const CheckpointNode* const> nodes) {
  absl::StatusOr<std::vector<at::Tensor>> tensors = reads_.Ahead(nodes);
  if (tensors.ok()) return *std::move(tensors);
  read_ahead_ = absl::Status(
      tensors.status().code(), absl::StrCat("cannot load ", NameOf(plan_), ": ",
                                            tensors.status().message(), ". Nothing was changed"));
  return std::vector<at::Tensor>(nodes.size());
}

void LoadPlan::Restored(const CheckpointNode& node) {
  restored_.emplace_back(node.leaf->leaf_number(), node.printed);
}

LoadReport LoadPlan::TakeReport() {
  if (read_) {
    std::sort(restored_.begin(), restored_.end());
    restored_.erase(std::unique(restored_.begin(), restored_.end()), restored_.end());
    for (auto& [number, printed] : restored_) report_.restored.push_back(std::move(printed));
  }
  return std::move(report_);
}

LeafFacts LoadPlan::FactsOfName(const std::string& printed) const {
  LeafFacts facts;
  facts.printed_key = printed;
  facts.top_level = top_level_.empty() ? printed : top_level_;
  return facts;
}

LeafFacts LoadPlan::FactsOfNode(const CheckpointNode& node) const {
  if (node.kind != Kind::kLeaf) return FactsOfName(node.printed);
  return FactsOf(node.leaf->leaf(), node.printed, node.leaf->rank());
}

void LoadPlan::RenameChildren(CheckpointNode& node, bool is_module) {
  for (const std::string& collision : rules_.RenameChildren(node, is_module)) {
    Problem("renames", collision);
  }
}

void LoadPlan::Keep(CheckpointNode& node) {
  node.kept = true;
  keeps_any_ = true;
}

void LoadPlan::Missing(const std::string& parent, const std::string& name, Asked asked,
                       Names names) {
  const std::string printed = parent.empty() ? name : absl::StrCat(parent, ".", name);
  report_.missing.push_back(printed);
  if (rules_.For(LoadRules::Case::kMissing, FactsOfName(printed)) != LoadRules::Action::kError) {
    return;
  }
  if (asked == Asked::kKey) missing_key_ = true;
  missing_.push_back(WithNearest(printed, name, missing_.size(), names));
}

void LoadPlan::Unexpected(CheckpointNode& node, Names names) {
  report_.unexpected.push_back(node.printed);
  switch (rules_.For(LoadRules::Case::kUnexpected, FactsOfNode(node))) {
    case LoadRules::Action::kError:
      unexpected_.push_back(
          WithNearest(node.printed, node.key.ToString(), unexpected_.size(), names));
      break;
    case LoadRules::Action::kKeep:
      Keep(node);
      break;
    default:
      node.taken = true;
  }
}

void LoadPlan::Mismatched(CheckpointNode& node, absl::string_view text) {
  node.taken = true;
  if (node.needs_rank_rule) {
    needs_rank_rule_.push_back(node.printed);
    return;
  }
  report_.mismatched.push_back(absl::StrCat(node.printed, ": ", text));
  switch (rules_.For(LoadRules::Case::kMismatched, FactsOfNode(node))) {
    case LoadRules::Action::kSkip:
      break;
    case LoadRules::Action::kKeep:
      Keep(node);
      break;
    default:
      mismatched_.push_back(report_.mismatched.back());
  }
}

void LoadPlan::Problem(const std::string& printed, absl::string_view text) {
  problems_.push_back(printed.empty() ? std::string(text) : absl::StrCat(printed, ": ", text));
}

absl::Status LoadPlan::Check() {
  CKPT_RETURN_IF_ERROR(read_ahead_);
  std::vector<std::string> complaints;
  const auto complain = [&](absl::string_view what, const std::vector<std::string>& list) {
    if (list.empty()) return;
    complaints.push_back(absl::StrCat(what, " (", list.size(), "): ", absl::StrJoin(list, ", ")));
  };
  complain("cannot be loaded", problems_);
  complain(
      "each rank has its own, and the number of ranks differs: say whose to take with "
      "LoadOptions::per_rank_source",
      needs_rank_rule_);
  const bool never_tolerated = !complaints.empty();
  complain("missing from the checkpoint", missing_);
  complain("unexpected in the checkpoint", unexpected_);
  complain("mismatched", mismatched_);
  if (complaints.empty() && !plan_.has_unreadable()) {
    return absl::OkStatus();  // Read checks the rest before it reads
  }
  const bool state_fits = complaints.empty();
  const absl::Status readable = reads_.Check();
  if (!readable.ok()) complaints.push_back(absl::StrCat("cannot be read: ", readable.message()));
  if (complaints.empty()) return absl::OkStatus();  // what is lost is not wanted
  if (absl::IsDataLoss(readable)) reads_.NoteUnreadable();
  const std::string text = absl::StrCat("cannot load ", NameOf(plan_), ": ",
                                        absl::StrJoin(complaints, "; "), ". Nothing was changed",
                                        hints_.empty() ? "" : ". ", absl::StrJoin(hints_, ". "));
  if (absl::IsDataLoss(readable)) return absl::DataLossError(text);
  if (state_fits) return absl::Status(readable.code(), text);
  return missing_key_ && !never_tolerated ? absl::NotFoundError(text)
                                          : absl::InvalidArgumentError(text);
}

absl::Status LoadPlan::Read() {
  try {
    const absl::Status status = reads_.Read();
    read_ = status.ok();
    return status;
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("LibTorch failed: ", error.what()));
  }
}

absl::Status LoadPlan::Commit() {
  try {
    at::NoGradGuard no_grad;
    reads_.Copy();
    for (const auto& action : commits_) CKPT_RETURN_IF_ERROR(action());
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("LibTorch failed: ", error.what()));
  }
  return absl::OkStatus();
}

}  // namespace ckpt
