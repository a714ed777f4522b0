// What LoadOptions say of single names and leaves, compiled: renames and policies.
#ifndef CKPT_CLIENT_TORCH_LOAD_RULES_H_
#define CKPT_CLIENT_TORCH_LOAD_RULES_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/torch/checkpoint_tree.h"
#include "client/torch/checkpointer.h"
#include "common/filter.h"

namespace re2 {
class RE2;
}  // namespace re2

namespace ckpt {

class LoadRules {
 public:
  using Action = LoadPolicy::Action;
  enum class Case { kMissing, kUnexpected, kMismatched, kUnreadable };

  // INVALID_ARGUMENT: a bad pattern, a policy that says nothing or nonsense. Keeps no reference.
  static absl::StatusOr<LoadRules> Compile(const LoadOptions& options);

  Action For(Case what, const LeafFacts& leaf) const;

  // Makes the children of `node` be found under the names that the caller has for them. Returns
  // what is wrong: two that would be found under one name.
  std::vector<std::string> RenameChildren(CheckpointNode& node, bool is_module) const;

 private:
  struct Policy {
    LeafFilter filter;
    std::optional<Action> missing;
    std::optional<Action> unexpected;
    std::optional<Action> mismatched;
    std::optional<Action> unreadable;
  };
  struct Renaming {
    Rename rule;
    std::shared_ptr<const re2::RE2> regex;  // kRegex
  };

  bool strict_ = true;
  LoadOptions::Mismatch mismatch_ = LoadOptions::Mismatch::kError;
  std::vector<Policy> policies_;
  std::vector<Renaming> renames_;
};

// The rename of one prefix, as a caller writes it, that finds all of `missing` among `unexpected`
// ("module." of a model that was saved by DDP); empty where there is none.
std::string PrefixThatFits(const std::vector<std::string>& missing,
                           const std::vector<std::string>& unexpected);

}  // namespace ckpt

#endif  // CKPT_CLIENT_TORCH_LOAD_RULES_H_
