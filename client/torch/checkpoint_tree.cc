#include "client/torch/checkpoint_tree.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/key.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

using Kind = CheckpointNode::Kind;

bool EveryLeafNeedsRankRule(const CheckpointNode& node) {
  if (node.kind == Kind::kLeaf) return node.needs_rank_rule;
  return std::all_of(node.children.begin(), node.children.end(),
                     [](const auto& child) { return EveryLeafNeedsRankRule(*child); });
}

// False where ranks that have their own have different kinds of value here: the node is then one
// leaf that needs a rank rule, and stands for all below it.
absl::StatusOr<bool> Become(CheckpointNode& node, Kind kind, const v1::PlannedLeaf& leaf,
                            bool needs_rank_rule) {
  if (node.kind == Kind::kUnknown) node.kind = kind;
  if (node.kind == kind) return true;
  if (!needs_rank_rule || !EveryLeafNeedsRankRule(node)) {
    return absl::DataLossError(absl::StrCat(
        "the checkpoint's keys contradict each other: two kinds of value at ", node.printed));
  }
  node.kind = Kind::kLeaf;
  node.leaf = &leaf;
  node.needs_rank_rule = true;
  node.child_by_key.clear();
  node.children.clear();
  return false;
}

CheckpointNode* Child(CheckpointNode& parent, const v1::KeySegment& segment) {
  StateKey key = segment.kind_case() == v1::KeySegment::kIndex    ? StateKey(segment.index())
                 : segment.kind_case() == v1::KeySegment::kNumber ? StateKey(segment.number())
                                                                  : StateKey(segment.name());
  const auto [found, is_new] = parent.child_by_key.emplace(key, parent.children.size());
  if (is_new) {
    auto child = std::make_unique<CheckpointNode>();
    child->printed =
        parent.root ? key.ToString() : absl::StrCat(parent.printed, ".", key.ToString());
    child->key = std::move(key);
    parent.children.push_back(std::move(child));
  }
  return parent.children[found->second].get();
}

absl::Status SetLeaf(CheckpointNode& node, const v1::PlannedLeaf& leaf, bool needs_rank_rule) {
  const v1::LeafKind kind = leaf.leaf().kind();
  if (kind == v1::LEAF_KIND_EMPTY_DICT || kind == v1::LEAF_KIND_EMPTY_LIST) {
    const Kind container = kind == v1::LEAF_KIND_EMPTY_DICT ? Kind::kDict : Kind::kList;
    return Become(node, container, leaf, needs_rank_rule).status();
  }
  if (node.leaf != nullptr && needs_rank_rule) return absl::OkStatus();  // another rank's
  if (node.leaf != nullptr) {
    return absl::DataLossError(absl::StrCat("the checkpoint has two leaves at ", node.printed));
  }
  CKPT_ASSIGN_OR_RETURN(const bool fits, Become(node, Kind::kLeaf, leaf, needs_rank_rule));
  if (!fits) return absl::OkStatus();
  node.leaf = &leaf;
  node.needs_rank_rule = needs_rank_rule;
  return absl::OkStatus();
}

absl::Status AddLeaf(CheckpointNode& root, const v1::PlannedLeaf& leaf, bool needs_rank_rule) {
  CheckpointNode* node = &root;
  for (const v1::KeySegment& segment : leaf.leaf().key().segments()) {
    const bool in_list = segment.kind_case() == v1::KeySegment::kIndex;
    CKPT_ASSIGN_OR_RETURN(
        const bool fits, Become(*node, in_list ? Kind::kList : Kind::kDict, leaf, needs_rank_rule));
    if (!fits) return absl::OkStatus();
    node = Child(*node, segment);
  }
  return SetLeaf(*node, leaf, needs_rank_rule);
}

}  // namespace

CheckpointNode* CheckpointNode::Find(const StateKey& child) const {
  const auto found = child_by_key.find(child);
  return found == child_by_key.end() ? nullptr : children[found->second].get();
}

std::vector<std::string> CheckpointNode::ChildNames() const {
  std::vector<std::string> names(children.size());
  for (const auto& [name, position] : child_by_key) names[position] = name.ToString();
  return names;
}

bool CheckpointNode::is_tensor() const {
  return kind == Kind::kLeaf && leaf->leaf().kind() == v1::LEAF_KIND_TENSOR;
}

namespace {

struct Chosen {
  size_t position;
  const v1::PlannedLeaf* leaf;
};

// A checkpoint lists the first rank's leaves, then what other ranks have besides. A rank's own
// leaves belong where the first rank that has such a key has it: the order of the state.
std::vector<Chosen> ChooseLeaves(absl::Span<const v1::PlannedLeaf> leaves,
                                 std::optional<uint32_t> per_rank_source) {
  std::vector<Chosen> chosen;
  absl::flat_hash_map<std::string, size_t> first_position;
  for (size_t i = 0; i < leaves.size(); ++i) {
    const v1::PlannedLeaf& leaf = leaves[i];
    if (!leaf.selected()) continue;
    size_t position = i;
    if (leaf.leaf().placement() == v1::PLACEMENT_PER_RANK) {
      position = first_position.try_emplace(PrintKey(leaf.leaf().key()), i).first->second;
      if (per_rank_source && leaf.rank() != *per_rank_source) continue;
    }
    chosen.push_back({position, &leaf});
  }
  std::stable_sort(chosen.begin(), chosen.end(),
                   [](const Chosen& a, const Chosen& b) { return a.position < b.position; });
  return chosen;
}

}  // namespace

absl::StatusOr<std::unique_ptr<CheckpointNode>> BuildCheckpointTree(
    absl::Span<const v1::PlannedLeaf> leaves, std::optional<uint32_t> per_rank_source) {
  auto root = std::make_unique<CheckpointNode>();
  root->kind = Kind::kDict;
  root->root = true;
  for (const Chosen& chosen : ChooseLeaves(leaves, per_rank_source)) {
    const v1::PlannedLeaf& leaf = *chosen.leaf;
    const bool needs_rank_rule =
        leaf.leaf().placement() == v1::PLACEMENT_PER_RANK && !per_rank_source;
    if (leaf.leaf().key().segments().empty()) {
      return absl::DataLossError("the checkpoint has a leaf without a key");
    }
    CKPT_RETURN_IF_ERROR(AddLeaf(*root, leaf, needs_rank_rule));
  }
  return root;
}

}  // namespace ckpt
