#include "client/cli/torch_file/state_tree.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "common/key.h"
#include "common/quoted.h"
#include "common/status_macros.h"

namespace ckpt::cli {
namespace {

using NodeKind = StateNode::Kind;

std::string QuotedKey(const v1::PlannedLeaf& leaf) { return Quoted(PrintKey(leaf.leaf().key())); }

absl::Status Become(StateNode& node, NodeKind kind, const v1::PlannedLeaf& leaf) {
  if (node.kind == NodeKind::kUnknown) node.kind = kind;
  if (node.kind == kind) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("the checkpoint's keys contradict each other at ",
                                          QuotedKey(leaf), ": one key, two kinds of value"));
}

StateNode& Child(StateNode& parent, const v1::KeySegment& key) {
  // Names and numbers that print alike do not stand in one dictionary.
  v1::Key print;
  *print.add_segments() = key;
  StateNode*& child = parent.child_by_key[PrintKey(print)];
  if (child == nullptr) {
    child = parent.children.emplace_back(std::make_unique<StateNode>()).get();
    child->key = key;
  }
  return *child;
}

absl::Status AddLeaf(StateNode& root, const v1::PlannedLeaf& leaf) {
  StateNode* node = &root;
  for (const v1::KeySegment& segment : leaf.leaf().key().segments()) {
    const bool in_list = segment.kind_case() == v1::KeySegment::kIndex;
    CKPT_RETURN_IF_ERROR(Become(*node, in_list ? NodeKind::kList : NodeKind::kDict, leaf));
    node = &Child(*node, segment);
  }
  switch (leaf.leaf().kind()) {
    case v1::LEAF_KIND_EMPTY_DICT:
      return Become(*node, NodeKind::kDict, leaf);
    case v1::LEAF_KIND_EMPTY_LIST:
      return Become(*node, NodeKind::kList, leaf);
    default:
      break;
  }
  if (node->leaf != nullptr) {
    return absl::DataLossError(absl::StrCat("the checkpoint has ", QuotedKey(leaf), " twice"));
  }
  node->leaf = &leaf;
  return Become(*node, NodeKind::kLeaf, leaf);
}

// Sorts the lists and finds their holes.
absl::Status SortLists(StateNode& node, v1::Key& key) {
  if (node.kind == NodeKind::kList) {
    std::sort(node.children.begin(), node.children.end(), [](const auto& a, const auto& b) {
      return a->key.index() < b->key.index();
    });
    for (size_t i = 0; i < node.children.size(); ++i) {
      if (node.children[i]->key.index() == i) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("the selection leaves out ", Quoted(absl::StrCat(PrintKey(key), ".", i)),
                       ", and a list can't have holes: select all of it, or none"));
    }
  }
  for (const auto& child : node.children) {
    *key.add_segments() = child->key;
    CKPT_RETURN_IF_ERROR(SortLists(*child, key));
    key.mutable_segments()->RemoveLast();
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<StateNode>> MakeStateTree(const RestorePlan& plan) {
  auto root = std::make_unique<StateNode>();
  std::optional<uint32_t> rank;
  for (const v1::PlannedLeaf& leaf : plan.leaves()) {
    if (!leaf.selected()) continue;
    if (leaf.leaf().placement() == v1::PLACEMENT_PER_RANK) {
      if (rank.value_or(leaf.rank()) != leaf.rank()) {
        return absl::InvalidArgumentError(
            absl::StrCat(QuotedKey(leaf), " is of rank ", leaf.rank(), ", another key of rank ",
                         *rank, ": choose whose state it shall be with --rank N, or leave out "
                         "what each rank has of its own with --exclude"));
      }
      rank = leaf.rank();
    }
    CKPT_RETURN_IF_ERROR(AddLeaf(*root, leaf));
  }
  if (root->kind == NodeKind::kUnknown) root->kind = NodeKind::kDict;
  v1::Key key;
  CKPT_RETURN_IF_ERROR(SortLists(*root, key));
  return root;
}

}  // namespace ckpt::cli
