// The selected leaves of a checkpoint as the nested dictionaries and lists that their keys say.
#ifndef CKPT_CLIENT_CLI_TORCH_FILE_STATE_TREE_H_
#define CKPT_CLIENT_CLI_TORCH_FILE_STATE_TREE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "client/restore/restore.h"

namespace ckpt::cli {

struct StateNode {
  enum class Kind { kUnknown, kLeaf, kDict, kList };
  Kind kind = Kind::kUnknown;
  v1::KeySegment key;                              // in its container
  const v1::PlannedLeaf* leaf = nullptr;           // kLeaf; in the plan
  std::vector<std::unique_ptr<StateNode>> children;  // kList: by position, without holes
  absl::flat_hash_map<std::string, StateNode*> child_by_key;
};

// Points into the plan. Dictionaries in checkpoint order. INVALID_ARGUMENT: leaves of several ranks
// that each has its own, a list of which the selection left something out. DATA_LOSS: keys that
// contradict each other.
absl::StatusOr<std::unique_ptr<StateNode>> MakeStateTree(const RestorePlan& plan);

}  // namespace ckpt::cli

#endif  // CKPT_CLIENT_CLI_TORCH_FILE_STATE_TREE_H_
