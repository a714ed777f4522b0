// Learns which saves became durable, without holding up training: a thread that asks again where
// the daemon was restarted in between. No Torch.
#ifndef CKPT_CLIENT_EXAMPLES_COMMIT_WATCH_H_
#define CKPT_CLIENT_EXAMPLES_COMMIT_WATCH_H_

#include <deque>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "client/client.h"
#include "client/examples/event_log.h"
#include "common/checkpoint_id.h"
#include "common/mutex.h"

namespace train_lm {

class CommitWatch {
 public:
  // Both must outlive this.
  CommitWatch(ckpt::Client* client, const EventLog* events);
  ~CommitWatch();  // leaves what is not decided yet

  // Its fate will be an event: {"event":"committed","step":N}, or "lost" with the reason.
  void Add(const ckpt::CheckpointId& id);
  // Blocks until the fate of all that were added is known. That of the last one.
  absl::Status Finish();

 private:
  void Run();
  absl::Status AwaitCommitted(const ckpt::CheckpointId& id);

  ckpt::Client* const client_;
  const EventLog* const events_;
  ckpt::Mutex mutex_;
  ckpt::CondVar changed_;
  std::deque<ckpt::CheckpointId> waiting_ ABSL_GUARDED_BY(mutex_);
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status last_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace train_lm

#endif  // CKPT_CLIENT_EXAMPLES_COMMIT_WATCH_H_
