// The incarnation of a launch: made by one rank, given to all. Each launch of a job needs one,
// later than that of any earlier launch, or the daemon takes it for a process left over from
// before.
#ifndef CKPT_CLIENT_TORCH_LAUNCH_H_
#define CKPT_CLIENT_TORCH_LAUNCH_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "common/ids.h"

namespace c10d {
class ProcessGroup;
class Store;
}  // namespace c10d

namespace ckpt {

// Rank 0 of `group` makes it and broadcasts it. Collective: every rank of the group must call.
// UNAVAILABLE: the group failed, or its timeout passed; INVALID_ARGUMENT: what was broadcast is no
// incarnation. Blocking. Cost: one broadcast of 16 bytes.
absl::StatusOr<Incarnation> ShareIncarnation(c10d::ProcessGroup& group);

// The same through a key-value store, for where there is no process group. `launch_name` tells
// launches apart that use the same store. UNAVAILABLE: the store failed, or rank 0 had put nothing
// there when its timeout passed; INVALID_ARGUMENT: what is there is no incarnation. Blocking. Cost:
// rank 0 sets one key, each rank waits for it and gets it.
absl::StatusOr<Incarnation> ShareIncarnation(c10d::Store& store, uint32_t rank,
                                             const std::string& launch_name);

// Under torchrun, without a process group: through the store of its agent (MASTER_ADDR,
// MASTER_PORT), under TORCHELASTIC_RUN_ID and TORCHELASTIC_RESTART_COUNT. FAILED_PRECONDITION
// where the environment is not torchrun's: says which variable is missing. Otherwise as above, and
// UNAVAILABLE where the agent's store cannot be reached. Cost: a connection to it, too.
absl::StatusOr<Incarnation> IncarnationFromTorchrun();

}  // namespace ckpt

#endif  // CKPT_CLIENT_TORCH_LAUNCH_H_
