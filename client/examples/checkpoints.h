// The trainer's side of checkpointing: what belongs to its state, and the order of the calls.
//
//   Resume            load the run's latest committed checkpoint, if there is one
//   loop:
//     Begin(step)     after the optimizer step: starts the save, returns at once
//     ... forward and backward of the next step: parameters are only read ...
//     AwaitStaged     before the optimizer step: now the tensors may change
//   Finish            the last save is durable
//
// All calls are collective: every rank makes them in the same order.
#ifndef CKPT_CLIENT_EXAMPLES_CHECKPOINTS_H_
#define CKPT_CLIENT_EXAMPLES_CHECKPOINTS_H_

#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/examples/commit_watch.h"
#include "client/examples/data_parallel.h"
#include "client/examples/event_log.h"
#include "client/examples/memory_copy.h"
#include "client/examples/model.h"
#include "client/examples/options.h"
#include "client/examples/sharded_adamw.h"
#include "client/examples/text.h"
#include "client/torch/checkpointer.h"

namespace train_lm {

// What is trained; not owned.
struct TrainingState {
  LanguageModel* model;
  ShardedAdamW* optimizer;
  TextReader* reader;
};

class Checkpoints {
 public:
  // Connects, agrees on the launch's incarnation, and prepares the first save. Errors as
  // Checkpointer::Connect and Prepare.
  static absl::StatusOr<std::unique_ptr<Checkpoints>> Open(const Options& options,
                                                           TrainingState training,
                                                           DataParallel* group,
                                                           const EventLog* events);

  // The step to go on from; 0, and nothing touched, where the run has no committed checkpoint.
  absl::StatusOr<int64_t> Resume();
  // Exactly this step. Errors as Checkpointer::Load.
  absl::Status Load(int64_t step);

  absl::Status Begin(int64_t step);
  bool saving() const { return saving_step_.has_value(); }
  // Does nothing where no save was begun. A save that a restart of the daemon interrupted is begun
  // again once: the tensors still stand as they were.
  absl::Status AwaitStaged();
  absl::Status Finish();

 private:
  Checkpoints(const Options& options, TrainingState training, DataParallel* group,
              const EventLog* events);
  absl::Status StartSave();
  absl::Status SaveAgain();
  ckpt::LoadOptions LoadOptions() const;
  // What a load has put into `state` beside the tensors.
  absl::Status TakeOver(const ckpt::LoadResult& result, ckpt::StateDict& state);
  ckpt::StateDict State(int64_t step) const;
  ckpt::TorchSaveOptions SaveOptions() const;
  void ReportStall();

  const Options& options_;
  const TrainingState training_;
  DataParallel* group_;
  const EventLog* events_;
  ckpt::Incarnation incarnation_;
  MemoryCopy bare_copy_;  // of the bytes that this rank hands over
  std::unique_ptr<ckpt::Checkpointer> checkpointer_;
  std::unique_ptr<CommitWatch> commits_;  // rank 0

  // The save under way.
  std::optional<int64_t> saving_step_;
  ckpt::StateDict saving_state_;
  std::optional<ckpt::SaveHandle> handle_;
  absl::Duration call_time_;   // what Save took
  absl::Duration await_time_;  // what AwaitStaged took
};

}  // namespace train_lm

#endif  // CKPT_CLIENT_EXAMPLES_CHECKPOINTS_H_
