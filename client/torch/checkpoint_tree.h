// A checkpoint's leaves as the nested dictionaries and lists that they came from, as one rank sees
// them. Points into the plan that it was made from.
#ifndef CKPT_CLIENT_TORCH_CHECKPOINT_TREE_H_
#define CKPT_CLIENT_TORCH_CHECKPOINT_TREE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "ckpt/v1/restore.pb.h"
#include "client/torch/state.h"

namespace ckpt {

struct CheckpointNode {
  enum class Kind { kUnknown, kLeaf, kDict, kList };
  Kind kind = Kind::kUnknown;
  StateKey key = "";    // in the parent; the position in a list
  std::string printed;  // the whole key; empty, too, at a key whose one name is empty
  bool root = false;
  const v1::PlannedLeaf* leaf = nullptr;
  // PER_RANK, and nobody said whose to take: this is the first one found. A leaf even where some
  // rank has a dictionary or a list here, and `leaf` is then one of those below it.
  bool needs_rank_rule = false;
  bool taken = false;  // set by a load for what it has dealt with, with all below
  bool kept = false;   // and by it for what stays in the remainder all the same
  bool lost = false;   // and by it for a leaf that cannot be read, where that is tolerated
  std::vector<std::unique_ptr<CheckpointNode>> children;
  absl::flat_hash_map<StateKey, size_t> child_by_key;  // by the names that Find answers to

  CheckpointNode* Find(const StateKey& child) const;
  std::vector<std::string> ChildNames() const;
  bool is_tensor() const;  // a leaf of kind TENSOR
};

// `per_rank_source`: whose PER_RANK leaves to take. Leaves in checkpoint order. DATA_LOSS where
// they don't make a tree (a leaf inside a leaf, a list used as a dictionary) for a single rank.
absl::StatusOr<std::unique_ptr<CheckpointNode>> BuildCheckpointTree(
    absl::Span<const v1::PlannedLeaf> leaves, std::optional<uint32_t> per_rank_source);

}  // namespace ckpt

#endif  // CKPT_CLIENT_TORCH_CHECKPOINT_TREE_H_
