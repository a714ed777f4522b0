// Keys of a checkpoint near to those that it lacks, found by a bounded number of steps whatever the
// checkpoint's size. Nothing but the answer is held: no list of keys.
//
// 1. The checkpoint's first keys are walked: all of them where there are up to 20,000, and fewer
//    where many parts have them, as each step is one in every part (but always the first 1,000).
//    Where that was all, the answer is exact.
// 2. Otherwise, what is one edit away, and then what is two away, is found wherever it lies: the
//    keys are sorted, so all that begin as nothing near begins are passed over by one seek.
// 3. What is further away is looked for segment by segment: below the nearest names of the segments
//    before, the first 256 names and the one that was asked for.
// 2 and 3 have as many steps for each missing key as 1. So a key of a larger checkpoint that is
// three edits or more from the missing one, in a segment with more than 256 neighbours, may not be
// named; nothing worse happens.
#ifndef CKPT_SERVER_RPC_NEAREST_KEYS_H_
#define CKPT_SERVER_RPC_NEAREST_KEYS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "common/nearest_names.h"
#include "server/rpc/leaf_merge.h"

namespace ckpt {

// Adds to every search the keys (printed) that are near to its name.
absl::Status FindNearestKeys(LeafMerge& leaves, absl::Span<NearestSearch> searches);

// NOT_FOUND where a key of `named` (printed) is in none of the checkpoints (one, or two that are
// compared): names the first ten of those that are not, each with the nearest.
absl::Status CheckKeysExist(absl::Span<const std::string> named,
                            absl::Span<LeafMerge* const> checkpoints);

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_NEAREST_KEYS_H_
