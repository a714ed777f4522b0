// Loading from a restore plan: what Checkpointer::Load does once the daemon has answered. Works on
// any RestorePlan, so it is tested without a daemon.
#ifndef CKPT_CLIENT_TORCH_LOAD_H_
#define CKPT_CLIENT_TORCH_LOAD_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "client/restore/restore.h"
#include "client/torch/checkpointer.h"
#include "client/torch/state.h"

namespace ckpt {

struct LoadingRank {
  uint32_t rank = 0;
  uint32_t world_size = 1;
};

// Into `value`: a dictionary for the whole state, or any one object, from what lies under `path`.
// Errors and effects as Checkpointer::Load. The remainder keeps `plan`.
absl::StatusOr<LoadResult> LoadInto(std::shared_ptr<RestorePlan> plan, LoadingRank rank,
                                    StateValue& value, const std::vector<StateKey>& path,
                                    const LoadOptions& options);

absl::StatusOr<StateDict> LoadRaw(RestorePlan& plan, LoadingRank rank, const LoadOptions& options);

}  // namespace ckpt

#endif  // CKPT_CLIENT_TORCH_LOAD_H_
