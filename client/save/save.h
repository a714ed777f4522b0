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
  v1::IfExists if_exists = v1::IF_EXISTS_UNSPECIFIED;
  v1::OnFull on_full = v1::ON_FULL_WAIT;
  // UNSPECIFIED: shared memory on a unix socket, else stream.
  v1::Transport transport = v1::TRANSPORT_UNSPECIFIED;
  absl::Duration join_deadline = absl::Minutes(10);
  absl::Duration memory_wait = absl::Minutes(10);
  std::optional<uint64_t> resumed_step;
  int copy_threads = 1;
  // Go on with forward and backward while the bytes are copied; wait for staged just before the
  // optimizer step. Leaves marked copy_early are copied before Save returns.
  bool overlap = false;
};

struct SaveProgress {
  uint64_t bytes_copied = 0;
  uint64_t bytes_total = 0;
  v1::CheckpointState state = v1::CHECKPOINT_STATE_WRITING;  // as far as this handle has learnt
};

// Copyable; all copies speak of the same save. Thread-safe. A failed save says so here and on no
// later one.
class SaveHandle {
 public:
  class Impl;
  explicit SaveHandle(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
  const CheckpointId& id() const;
  // The stalled time ends here: the daemon owns every byte of this part. The tensors may change.
  absl::Status AwaitStaged(absl::Duration timeout = absl::InfiniteDuration());
  // Durable on this node, all parts. ABORTED with the reason; DEADLINE_EXCEEDED (may be called
  // again).
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
