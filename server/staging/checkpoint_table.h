// The checkpoints that are alive in this daemon: WRITING, STAGED, just COMMITTED or ABORTED. Groups
// parts by (run, step, incarnation), holds the rules of who may join, checks that the parts fit
// together, and tells whoever waits. What is older than this process is in the index.
//
// Thread-safe. Callbacks are called without locks held.
#ifndef CKPT_SERVER_STAGING_CHECKPOINT_TABLE_H_
#define CKPT_SERVER_STAGING_CHECKPOINT_TABLE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ckpt/v1/checkpoint.pb.h"
#include "ckpt/v1/save.pb.h"
#include "common/checkpoint_id.h"
#include "common/layout.h"
#include "server/index/index.h"
#include "server/persist/persister.h"

namespace ckpt {

// What catalog, wait and restore ask. Save's side of the table (joining, staging, finishing) is
// declared beside it in staging/.
class CheckpointView {
 public:
  virtual ~CheckpointView() = default;
  // Live checkpoints of a run (of all runs: empty), newest step first. Those already COMMITTED are
  // left to the index.
  virtual std::vector<v1::CheckpointInfo> Live(const std::string& run) = 0;
  // Blocks until the checkpoint has reached `state` or a later one. ABORTED with the reason;
  // NOT_FOUND for an unknown triple; DEADLINE_EXCEEDED; CANCELLED when `cancelled` (polled) turns
  // true. An id without incarnation means the newest known one of that step.
  virtual absl::StatusOr<v1::CheckpointInfo> Wait(const CheckpointId& id, v1::CheckpointState state,
                                                  absl::Time deadline,
                                                  absl::FunctionRef<bool()> cancelled) = 0;
  // Blocks until no checkpoint of the run is STAGED (adopted ones included) - each has become
  // COMMITTED or ABORTED.
  virtual absl::Status WaitSettled(const std::string& run, absl::Time deadline,
                                   absl::FunctionRef<bool()> cancelled) = 0;
  // Every change of state, in order, until unsubscribed. `changed` is called from the changing
  // thread: copy and return.
  virtual uint64_t Subscribe(
      absl::AnyInvocable<void(const v1::CheckpointInfo&, bool deleted)> changed) = 0;
  virtual void Unsubscribe(uint64_t number) = 0;
  // Tells subscribers of something that happened elsewhere (a deletion, a tag).
  virtual void Announce(const v1::CheckpointInfo& info, bool deleted) = 0;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_STAGING_CHECKPOINT_TABLE_H_
