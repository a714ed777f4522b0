#include "client/examples/trainer.h"

#include <torch/torch.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/examples/checkpoints.h"
#include "client/examples/data_parallel.h"
#include "client/examples/event_log.h"
#include "client/examples/model.h"
#include "client/examples/sharded_adamw.h"
#include "client/examples/state_digest.h"
#include "client/examples/text.h"
#include "common/status_macros.h"

namespace train_lm {
namespace {

constexpr size_t kTextBytes = 1 << 20;
constexpr double kWarmUpSteps = 10;

class Trainer {
 public:
  explicit Trainer(const Options& options)
      : options_(options),
        group_(options.rendezvous, options.rank, options.ranks),
        model_(MakeModel(options)),
        optimizer_(model_->named_parameters(), &group_),
        reader_(WriteText(options.seed, kTextBytes), options.rank, options.ranks,
                options.context + 1, options.seed) {
    for (const torch::Tensor& parameter : model_->parameters()) {
      group_.BroadcastFromFirst(parameter.detach());
    }
    torch::manual_seed(options.seed * 1000 + options.rank);  // each rank drops its own
  }

  absl::Status Run(const EventLog& events);

 private:
  static LanguageModel MakeModel(const Options& options) {
    torch::manual_seed(options.seed);
    return LanguageModel(
        ModelShape{options.layers, options.width, options.heads, options.context, options.dropout});
  }
  absl::Status Inspect();
  absl::Status TrainFrom(int64_t step);
  float ForwardBackward();
  absl::Status ReportLoss(int64_t step, float loss, absl::Duration took);
  absl::Status WriteDigests(int64_t step) {
    return WriteStateDigests(options_.out + "/digests.txt", step, optimizer_, reader_.position(),
                             group_);
  }

  const Options& options_;
  DataParallel group_;
  LanguageModel model_;
  ShardedAdamW optimizer_;
  TextReader reader_;
  std::unique_ptr<Checkpoints> checkpoints_;  // null where no run is named
};

absl::Status Trainer::Run(const EventLog& events) {
  events.Write("started", {{"pid", static_cast<int64_t>(::getpid())}});
  if (group_.rank() == 0) {
    int64_t parameters = 0;
    for (const torch::Tensor& tensor : model_->parameters()) parameters += tensor.numel();
    std::printf("model of %.1f M parameters on %d ranks: a checkpoint is %.0f MB\n",
                parameters / 1e6, group_.ranks(), parameters * 12 / 1e6);
  }
  int64_t step = 0;
  if (!options_.run.empty()) {
    const TrainingState state{&model_, &optimizer_, &reader_};
    CKPT_ASSIGN_OR_RETURN(checkpoints_, Checkpoints::Open(options_, state, &group_, &events));
    if (!options_.inspect.empty()) return Inspect();
    CKPT_ASSIGN_OR_RETURN(step, checkpoints_->Resume());
  }
  return TrainFrom(step);
}

absl::Status Trainer::Inspect() {
  for (const int64_t step : options_.inspect) {
    CKPT_RETURN_IF_ERROR(checkpoints_->Load(step));
    CKPT_RETURN_IF_ERROR(WriteDigests(step));
  }
  group_.Barrier();
  return absl::OkStatus();
}

absl::Status Trainer::TrainFrom(int64_t step) {
  while (step < options_.steps) {
    const absl::Time begin = absl::Now();
    const float loss = ForwardBackward();  // a save of `step` may be under way
    optimizer_.ReduceGradients();
    if (checkpoints_ != nullptr) CKPT_RETURN_IF_ERROR(checkpoints_->AwaitStaged());
    const double warm = std::min(1.0, (step + 1) / kWarmUpSteps);
    optimizer_.Step(options_.learning_rate * warm);
    ++step;
    CKPT_RETURN_IF_ERROR(ReportLoss(step, loss, absl::Now() - begin));
    const bool save = step % options_.save_every == 0 || step == options_.steps;
    if (save && checkpoints_ != nullptr) CKPT_RETURN_IF_ERROR(checkpoints_->Begin(step));
    if ((save && options_.digest_saves) || step == options_.steps) {
      CKPT_RETURN_IF_ERROR(WriteDigests(step));
    }
  }
  if (checkpoints_ != nullptr) CKPT_RETURN_IF_ERROR(checkpoints_->Finish());
  return absl::OkStatus();
}

float Trainer::ForwardBackward() {
  const int64_t length = options_.context + 1;
  torch::Tensor windows = torch::empty({options_.batch, length}, torch::kInt64);
  for (int64_t i = 0; i < options_.batch; ++i) {
    const uint8_t* bytes = reader_.NextWindow();
    std::copy(bytes, bytes + length, windows[i].data_ptr<int64_t>());
  }
  optimizer_.ZeroGradients();
  torch::Tensor loss = model_->Loss(windows);
  loss.backward();
  torch::Tensor mean = loss.detach().clone().view({1});
  group_.Average(mean);
  return mean.item<float>();
}

absl::Status Trainer::ReportLoss(int64_t step, float loss, absl::Duration took) {
  if (group_.rank() != 0) return absl::OkStatus();
  std::printf("step %-4ld loss %.6f  %.0f ms\n", step, loss, absl::ToDoubleMilliseconds(took));
  std::fflush(stdout);
  // Every bit of it: equal lines are equal losses.
  return AppendLine(options_.out + "/losses.txt",
                    absl::StrFormat("%06d %a %.6f", step, loss, loss));
}

}  // namespace

int Train(const Options& options) {
  at::set_num_threads(1);
  at::set_num_interop_threads(1);
  absl::Status status;
  try {
    const auto events = EventLog::Open(options.out + "/events.jsonl", options.rank);
    status = events.status();
    if (status.ok()) status = Trainer(options).Run(*events);
  } catch (const std::exception& error) {
    status = absl::InternalError(error.what());
  }
  if (status.ok()) return 0;
  std::fprintf(stderr, "train_lm: rank %d: %s\n", options.rank, status.ToString().c_str());
  return 1;
}

}  // namespace train_lm
