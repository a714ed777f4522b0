// Loading from a restore plan: what Checkpointer::Load does once the daemon has answered. Works on
// any RestorePlan, so it is tested without a daemon.
#ifndef CKPT_CLIENT_TORCH_LOAD_H_
#define CKPT_CLIENT_TORCH_LOAD_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "client/restore/restore.h"
#include "client/torch/checkpointer.h"
#include "client/torch/state.h"

namespace ckpt {

struct LoadingRank {
  uint32_t rank = 0;
  uint32_t world_size = 1;
};

// Of a plan of less than `options.restore.selection` takes.
struct NarrowedPlan {
  absl::flat_hash_set<std::string> partial;  // as in LoadSelection
  // Of the same checkpoint everything: what the load goes on with where something is missing.
  std::function<absl::StatusOr<std::shared_ptr<RestorePlan>>(const RestorePlan& narrow)> whole;
};

// Into `value`: a dictionary for the whole state, or any one object, from what lies under `path`.
// Errors and effects as Checkpointer::Load. The remainder keeps `plan`. `narrowed`: null where
// `plan` has everything.
absl::StatusOr<LoadResult> LoadInto(std::shared_ptr<RestorePlan> plan, LoadingRank rank,
                                    StateValue& value, const std::vector<StateKey>& path,
                                    const LoadOptions& options,
                                    const NarrowedPlan* narrowed = nullptr);

absl::StatusOr<StateDict> LoadRaw(RestorePlan& plan, LoadingRank rank, const LoadOptions& options);

}  // namespace ckpt

#endif  // CKPT_CLIENT_TORCH_LOAD_H_
