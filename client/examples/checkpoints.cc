#include "client/examples/checkpoints.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/examples/random_state.h"
#include "client/torch/launch.h"
#include "common/status_macros.h"

namespace train_lm {
namespace {

// Longer than a restart of the daemon takes.
constexpr absl::Duration kConnectTimeout = absl::Seconds(20);
constexpr absl::Duration kConnectSilently = absl::Seconds(1);
constexpr absl::Duration kJoinDeadline = absl::Minutes(1);

ckpt::ClientOptions ClientOptions(const Options& options) {
  ckpt::ClientOptions client;
  client.socket = options.socket;
  client.name = absl::StrCat("train_lm rank ", options.rank);
  return client;
}

// A daemon that is not there is waited for, but not without a word.
absl::StatusOr<std::unique_ptr<ckpt::Checkpointer>> Connect(ckpt::CheckpointerOptions options) {
  options.client.connect_timeout = kConnectSilently;
  auto connected = ckpt::Checkpointer::Connect(options);
  if (!absl::IsUnavailable(connected.status())) return connected;
  if (options.rank == 0) {
    absl::FPrintF(stderr, "waiting for ckptd: %s\n", connected.status().message());
  }
  options.client.connect_timeout = kConnectTimeout - kConnectSilently;
  return ckpt::Checkpointer::Connect(std::move(options));
}

// Parameters are numbered in the order of the model; every rank has some rows of most of them.
ckpt::ShardedOptimizer Describe(ShardedAdamW& optimizer) {
  ckpt::ShardedOptimizer description;
  description.optimizer = &optimizer.optimizer();
  description.groups.emplace_back();
  int64_t index = 0;
  for (const ShardedAdamW::Rows& rows : optimizer.rows()) {
    description.groups[0].push_back(index);
    if (rows.mine.numel() > 0) {
      ckpt::ShardedOptimizer::Parameter parameter;
      parameter.index = index;
      parameter.global_shape = rows.parameter.sizes().vec();
      parameter.offset.assign(rows.parameter.dim(), 0);
      parameter.offset[0] = rows.begin;
      description.parameters.push_back(std::move(parameter));
    }
    ++index;
  }
  return description;
}

}  // namespace

Checkpoints::Checkpoints(const Options& options, TrainingState training, DataParallel* group,
                         const EventLog* events)
    : options_(options), training_(training), group_(group), events_(events) {
  for (const ShardedAdamW::Rows& rows : training.optimizer->rows()) {
    if (rows.mine.numel() == 0) continue;
    const torch::optim::AdamWParamState& state = training.optimizer->state(rows);
    for (const torch::Tensor& tensor : {rows.mine, state.exp_avg(), state.exp_avg_sq()}) {
      bare_copy_.Add(tensor.data_ptr(), tensor.nbytes());
    }
  }
}

absl::StatusOr<std::unique_ptr<Checkpoints>> Checkpoints::Open(const Options& options,
                                                               TrainingState training,
                                                               DataParallel* group,
                                                               const EventLog* events) {
  std::unique_ptr<Checkpoints> checkpoints(new Checkpoints(options, training, group, events));
  CKPT_ASSIGN_OR_RETURN(checkpoints->incarnation_, ckpt::ShareIncarnation(*group->group()));
  ckpt::CheckpointerOptions connection;
  connection.client = ClientOptions(options);
  connection.run = options.run;
  connection.rank = group->rank();
  connection.world_size = group->ranks();
  connection.incarnation = checkpoints->incarnation_;
  CKPT_ASSIGN_OR_RETURN(checkpoints->checkpointer_, Connect(std::move(connection)));
  CKPT_RETURN_IF_ERROR(
      checkpoints->checkpointer_->Prepare(checkpoints->State(0), checkpoints->SaveOptions()));
  if (group->rank() == 0) {
    checkpoints->commits_ =
        std::make_unique<CommitWatch>(&checkpoints->checkpointer_->client(), events);
  }
  return checkpoints;
}

ckpt::StateDict Checkpoints::State(int64_t step) const {
  const ReaderPosition reader = training_.reader->position();
  // Plain values and tensors outside of model and optimizer are each rank's own.
  return ckpt::StateDict{
      {"model", *training_.model},
      {"optimizer", Describe(*training_.optimizer)},
      {"reader", ckpt::StateDict{{"epoch", reader.epoch},
                                 {"window", reader.window},
                                 {"random_state", static_cast<int64_t>(reader.random_state)}}},
      {"random", RandomState()},
      {"step", step}};
}

ckpt::TorchSaveOptions Checkpoints::SaveOptions() const {
  ckpt::TorchSaveOptions options;
  options.save.overlap = options_.overlap;
  options.save.join_deadline = kJoinDeadline;
  return options;
}

ckpt::LoadOptions Checkpoints::LoadOptions() const {
  ckpt::LoadOptions options;
  // On other ranks than saved it, each goes on reading where one of those stood.
  options.per_rank_source = ckpt::LoadOptions::kOwnRankWrapped;
  return options;
}

absl::Status Checkpoints::TakeOver(const ckpt::LoadResult& result, ckpt::StateDict& state) {
  const ckpt::StateDict& reader = *state["reader"].If<ckpt::StateDict>();
  ReaderPosition position;
  CKPT_ASSIGN_OR_RETURN(position.epoch, reader.Find("epoch")->AsInt());
  CKPT_ASSIGN_OR_RETURN(position.window, reader.Find("window")->AsInt());
  CKPT_ASSIGN_OR_RETURN(position.random_state, reader.Find("random_state")->AsInt());
  training_.reader->Seek(position);
  CKPT_ASSIGN_OR_RETURN(torch::Tensor random, state["random"].AsTensor());
  SetRandomState(random);
  CKPT_ASSIGN_OR_RETURN(const int64_t step, state["step"].AsInt());
  if (step != static_cast<int64_t>(result.step())) {
    return absl::DataLossError(
        absl::StrCat("the checkpoint of step ", result.step(), " holds the state of step ", step));
  }
  return absl::OkStatus();
}

absl::StatusOr<int64_t> Checkpoints::Resume() {
  const absl::Time begin = absl::Now();
  ckpt::StateDict state = State(0);
  CKPT_ASSIGN_OR_RETURN(const std::optional<ckpt::LoadResult> result,
                        checkpointer_->Resume(state, LoadOptions()));
  if (!result.has_value()) return 0;
  CKPT_RETURN_IF_ERROR(TakeOver(*result, state));
  const int64_t step = static_cast<int64_t>(result->step());
  const ckpt::ReadStatistics& bytes = result->report.bytes;
  const double took_ms = absl::ToDoubleMilliseconds(absl::Now() - begin);
  events_->Write("resumed", {{"step", step},
                             {"bytes_read", static_cast<int64_t>(bytes.bytes_read)},
                             {"bytes_from_memory", static_cast<int64_t>(bytes.bytes_from_memory)},
                             {"ms", took_ms}});
  if (group_->rank() == 0) {
    std::printf(
        "resumed at step %ld, which %u ranks saved: rank 0 read %.1f MB (%.1f MB of it from "
        "memory) in %.0f ms\n",
        step, result->checkpoint.world_size(), bytes.bytes_read / 1e6,
        bytes.bytes_from_memory / 1e6, took_ms);
  }
  return step;
}

absl::Status Checkpoints::Load(int64_t step) {
  ckpt::StateDict state = State(0);
  CKPT_ASSIGN_OR_RETURN(const ckpt::LoadResult result,
                        checkpointer_->Load(step, state, LoadOptions()));
  return TakeOver(result, state);
}

absl::Status Checkpoints::Begin(int64_t step) {
  saving_step_ = step;
  handle_.reset();
  const absl::Time begin = absl::Now();
  saving_state_ = State(step);
  const absl::Status status = StartSave();
  call_time_ = absl::Now() - begin;
  if (absl::IsInvalidArgument(status)) return status;
  return absl::OkStatus();  // anything else: AwaitStaged tries once more
}

absl::Status Checkpoints::StartSave() {
  CKPT_ASSIGN_OR_RETURN(handle_, checkpointer_->Save(*saving_step_, saving_state_, SaveOptions()));
  return absl::OkStatus();
}

absl::Status Checkpoints::AwaitStaged() {
  if (!saving_step_) return absl::OkStatus();
  const absl::Time begin = absl::Now();
  absl::Status status = handle_ ? handle_->AwaitStaged() : absl::UnavailableError("not begun");
  await_time_ = absl::Now() - begin;
  if (!status.ok()) {
    events_->Write("save_interrupted", {{"step", *saving_step_}, {"reason", status.ToString()}});
    if (absl::IsUnavailable(status)) status = SaveAgain();
  }
  if (status.ok()) {
    events_->Write("staged", {{"step", *saving_step_},
                              {"call_ms", absl::ToDoubleMilliseconds(call_time_)},
                              {"await_ms", absl::ToDoubleMilliseconds(await_time_)}});
    if (commits_ != nullptr) {
      commits_->Add({options_.run, static_cast<uint64_t>(*saving_step_), incarnation_});
    }
  } else {
    events_->Write("save_failed", {{"step", *saving_step_}, {"reason", status.ToString()}});
  }
  ReportStall();
  saving_step_.reset();
  saving_state_ = {};
  return options_.continue_on_error ? absl::OkStatus() : status;
}

absl::Status Checkpoints::SaveAgain() {
  CKPT_RETURN_IF_ERROR(StartSave());
  const absl::Status status = handle_->AwaitStaged();
  // It was staged after all: only the answer was lost, with the daemon that gave it.
  return absl::IsAlreadyExists(status) ? absl::OkStatus() : status;
}

void Checkpoints::ReportStall() {
  const double copy_ms = absl::ToDoubleMilliseconds(bare_copy_.Measure());
  const double mine[3] = {absl::ToDoubleMilliseconds(call_time_),
                          absl::ToDoubleMilliseconds(await_time_), copy_ms};
  double worst[3] = {0, 0, 0};
  for (const std::string& theirs :
       group_->GatherBytes(std::string(reinterpret_cast<const char*>(mine), sizeof(mine)))) {
    double values[3];
    std::memcpy(values, theirs.data(), sizeof(values));
    for (int i = 0; i < 3; ++i) worst[i] = std::max(worst[i], values[i]);
  }
  if (group_->rank() != 0) return;
  events_->Write("stall", {{"step", *saving_step_},
                           {"call_ms", worst[0]},
                           {"await_ms", worst[1]},
                           {"memcpy_ms", worst[2]},
                           {"bytes", static_cast<int64_t>(bare_copy_.bytes())}});
  std::printf(
      "  save of step %-4ld training stood still %.1f ms (Save %.1f + AwaitStaged %.1f);"
      " bare memcpy of the same %.1f MB a rank: %.1f ms\n",
      *saving_step_, worst[0] + worst[1], worst[0], worst[1], bare_copy_.bytes() / 1e6, worst[2]);
}

absl::Status Checkpoints::Finish() {
  CKPT_RETURN_IF_ERROR(AwaitStaged());
  const absl::Status status = commits_ != nullptr ? commits_->Finish() : absl::OkStatus();
  group_->Barrier();
  return status;
}

}  // namespace train_lm
