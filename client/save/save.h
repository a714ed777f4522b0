// One save of one part: options and the handle by which its fate is learnt.
#ifndef CKPT_CLIENT_SAVE_SAVE_H_
#define CKPT_CLIENT_SAVE_SAVE_H_

#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ckpt/v1/save.pb.h"
#include "common/checkpoint_id.h"

namespace ckpt {

struct SaveOptions {
  // A step that is COMMITTED already. UNSPECIFIED: ALREADY_EXISTS, on the handle, but replaced
  // where an earlier launch committed it and `resumed_step` is set and below it. FAIL: always that.
  // REPLACE: always replaced; the old one stays whole and restorable until this one is COMMITTED.
  v1::IfExists if_exists = v1::IF_EXISTS_UNSPECIFIED;
  // Where the daemon's memory budget is full. WAIT: for room. RING: through recycled slots at the
  // speed of the disk, and waits where there is not even room for those. REFUSE:
  // RESOURCE_EXHAUSTED on the handle.
  v1::OnFull on_full = v1::ON_FULL_WAIT;
  // UNSPECIFIED: shared memory on a unix socket, else stream.
  v1::Transport transport = v1::TRANSPORT_UNSPECIFIED;
  // From the first rank's Begin to the last; the first one's counts. Ranks that have not come by
  // then abort the checkpoint; so does a rank that has begun, has room to write into, and lets
  // nothing be heard for as long (two minutes at least). 0 or less: the daemon's own; more than
  // 24 h is 24 h.
  absl::Duration join_deadline = absl::Minutes(10);
  // How long WAIT and RING wait for memory, or for disk space that retention may free, then
  // RESOURCE_EXHAUSTED. 0 or less: not at all; more than 24 h is 24 h.
  absl::Duration memory_wait = absl::Minutes(10);
  // The step that this launch restored, below 2^63; see if_exists. Unset: none.
  // (ckpt::Checkpointer sets it to what it has loaded.)
  std::optional<uint64_t> resumed_step;
  int copy_threads = 1;  // 1 to 64, otherwise INVALID_ARGUMENT from Save; shared memory only
  // Go on with forward and backward while the bytes are copied; wait for staged just before the
  // optimizer step. Leaves marked copy_early are copied before Save returns.
  bool overlap = false;
  // Hash the tensors' bytes (XXH3-64, each MiB) while they are copied, and have the daemon compare:
  // a bit that flips between this process's memory and the disk aborts the checkpoint
  // (AwaitCommitted says which key and block) instead of being saved. Costs a part of the stall:
  // they are read once more, from the cache. Needs bytes that do not change during the save.
  bool hash_source = false;
};

struct SaveProgress {
  uint64_t bytes_copied = 0;
  uint64_t bytes_total = 0;
  v1::CheckpointState state = v1::CHECKPOINT_STATE_WRITING;  // as far as this handle has learnt
};

// Copyable; all copies speak of the same save. Thread-safe. A failed save says so here and on no
// later one. The calls look at what this process knows, at no cost; AwaitCommitted asks the daemon,
// which answers when the checkpoint has got there.
class SaveHandle {
 public:
  class Impl;
  explicit SaveHandle(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
  const CheckpointId& id() const;
  // The stalled time ends here: the daemon owns every byte of this part. The tensors may change.
  // DEADLINE_EXCEEDED: not yet, may be called again. FAILED_PRECONDITION in a forked child. Any
  // other error is the save's own, final, and of the codes of SaveService.Save (save.proto); the
  // tensors may change then, too. CANCELLED: the client was destroyed before.
  absl::Status AwaitStaged(absl::Duration timeout = absl::InfiniteDuration());
  // Durable on this node, all parts; AwaitStaged's errors where this part was not staged. ABORTED
  // with the reason: final. DEADLINE_EXCEEDED: may be called again. UNAVAILABLE: no daemon has
  // answered for 30 s; the checkpoint may commit yet, may be called again. NOT_FOUND: it was
  // deleted, or aborted more than a day ago.
  absl::Status AwaitCommitted(absl::Duration timeout = absl::InfiniteDuration());
  SaveProgress Progress() const;
  absl::Status status() const;  // OK while it is under way
  // Wall time from Client::Save's call to staged; zero before that.
  absl::Duration stall() const;

 private:
  std::shared_ptr<Impl> impl_;
};

}  // namespace ckpt

#endif  // CKPT_CLIENT_SAVE_SAVE_H_
