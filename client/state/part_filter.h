// The declarative filter of a save: which leaves of a part are handed over.
//
//   v1::Selection selection;
//   selection.add_exclude("optimizer.**");
//   CKPT_RETURN_IF_ERROR(SelectLeaves(selection, part));
//   client->Save(id, std::move(part), {});
//
// All ranks of a checkpoint apply the same selection: where their replicated leaves then differ,
// the save is aborted and names the ranks.
#ifndef CKPT_CLIENT_STATE_PART_FILTER_H_
#define CKPT_CLIENT_STATE_PART_FILTER_H_

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ckpt/v1/restore.pb.h"
#include "client/state/part.h"

namespace ckpt {

// Which of part.leaves the selection takes, by common/filter.h. Dtype and size are those of the
// whole tensor, for one rank's box and for an alias too. INVALID_ARGUMENT: the selection itself,
// slices (a save stores whole leaves), exact keys that the part lacks (all; the first 20 each with
// the nearest). Cost: each leaf's key is printed and compared with each pattern; with exact keys
// they are sorted as well.
absl::StatusOr<std::vector<bool>> SelectedLeaves(const Part& part, const v1::Selection& selection);

// Drops the others, in order. Of several names for the same bytes the first that is kept holds
// them, whichever held them before. `keep` has an entry for each leaf. INVALID_ARGUMENT, and the
// part is untouched: an alias of what is no earlier leaf that holds bytes. Cost: O(leaves); no byte
// of one is read.
absl::Status KeepLeaves(const std::vector<bool>& keep, Part& part);

// Both. The part is untouched where it fails.
absl::Status SelectLeaves(const v1::Selection& selection, Part& part);

}  // namespace ckpt

#endif  // CKPT_CLIENT_STATE_PART_FILTER_H_
