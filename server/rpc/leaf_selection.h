// What a v1::Selection asks of a checkpoint: which leaves, which boxes of them; walked in key order
// with as few looks at other leaves as the selection allows.
#ifndef CKPT_SERVER_RPC_LEAF_SELECTION_H_
#define CKPT_SERVER_RPC_LEAF_SELECTION_H_

#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "ckpt/v1/restore.pb.h"
#include "common/box.h"
#include "common/filter.h"
#include "server/rpc/caller.h"
#include "server/rpc/leaf_merge.h"

namespace ckpt {

// Immutable once made.
class LeafSelection {
 public:
  // INVALID_ARGUMENT: a pattern, a key or a box.
  static absl::StatusOr<LeafSelection> Create(const v1::Selection& selection);

  // Calls `visit` with `leaves` standing at each selected leaf, ascending, from `from` on, until it
  // answers false. An exact key costs one seek, a glob a scan of the keys that begin as it does.
  // Errors: the merge's, the visitor's, CANCELLED.
  absl::Status ForEach(LeafMerge& leaves, absl::string_view from, Cancelled cancelled,
                       absl::FunctionRef<absl::StatusOr<bool>()> visit) const;

  // The boxes that are asked of a selected leaf; null: all of it.
  const std::vector<Box>* BoxesOf(absl::string_view printed_key) const;

  // For a walk beside another one: from the leaf at hand to the first that ForEach would look at.
  // False: there is none. What is passed over is not selected.
  absl::StatusOr<bool> SkipToRange(LeafMerge& leaves) const;

  const LeafFilter& filter() const { return filter_; }

  // NOT_FOUND where ranks, or keys that were named exactly (see LeafFilter::named_keys), are in
  // none of the checkpoints: names them, each key with the nearest that are there.
  absl::Status CheckNamed(absl::Span<LeafMerge* const> checkpoints) const;

 private:
  explicit LeafSelection(LeafFilter filter) : filter_(std::move(filter)) {}
  bool Inside(absl::string_view range, absl::string_view key) const;

  LeafFilter filter_;
  bool only_exact_ = false;          // nothing but keys is included
  std::vector<std::string> ranges_;  // sorted: those keys, else what selected keys begin with
  absl::flat_hash_map<std::string, std::vector<Box>> slices_;  // by printed key
};

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_LEAF_SELECTION_H_
