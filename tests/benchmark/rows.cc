#include "tests/benchmark/rows.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "tests/benchmark/measure.h"

namespace ckpt::bench {
namespace {

// Four threads with a block of 16 MiB each, the largest setting.
constexpr uint64_t kRawBytes = uint64_t{64} << 20;

constexpr Row kRows[] = {
    {"stall", "the trainer's stall per save, one and two copy threads", StallRow},
    {"first-save", "the first save after Prepare", FirstSaveRow},
    {"durable", "bytes made durable per second", DurableRow},
    {"restore-memory", "restore from the memory tier", RestoreMemoryRow},
    {"restore-disk", "restore from cold disk", RestoreDiskRow},
    {"verification", "what hashing and checking cost", VerificationRow},
    {"partial", "one percent of a checkpoint, bytes read for it, and views", PartialRow},
    {"read-once", "ranks of a node that restore the same", ReadOnceRow},
    {"fair", "many ranks at once: the slowest beside the fastest", FairRow},
    {"calls", "short calls and watchers while a trainer saves", CallsRow},
    {"stream", "the stream transport", StreamRow},
    {"commit", "commit latency past the last durable byte", CommitRow},
    {"glob", "filtering keys by globs", GlobRow},
    {"catalogue", "a million tensors, ten thousand checkpoints", CatalogueRow},
    {"declare", "a million shards declared, validated and committed", DeclareRow},
    {"torch-save", "torch::save of the same state", TorchSaveRow},
};

}  // namespace

absl::Span<const Row> Rows() { return kRows; }

uint32_t Bench::Scaled(uint32_t full, uint32_t least) const {
  constexpr uint64_t kFullStateBytes = uint64_t{2} << 30;
  const double part = static_cast<double>(options_.state_bytes) / kFullStateBytes;
  return std::clamp(static_cast<uint32_t>(full * std::min(part, 1.0)), least, full);
}

absl::Status Bench::Open() {
  printer_.Note("making the state");
  CKPT_ASSIGN_OR_RETURN(state_, SampleState::Make(options_.state_bytes));
  CKPT_ASSIGN_OR_RETURN(Memory raw, Memory::Allocate(kRawBytes, Memory::Pages::kHuge));
  for (uint64_t at = 0; at < kRawBytes; at += state_->bytes()) {
    std::memcpy(raw.data() + at, state_->source(), std::min(state_->bytes(), kRawBytes - at));
  }
  raw_memory_.emplace(std::move(raw));
  CKPT_ASSIGN_OR_RETURN(daemon_, BenchDaemon::Start(options_));
  return absl::OkStatus();
}

CheckpointId Bench::NextId() { return {"bench", ++step_, incarnation_}; }

absl::StatusOr<RawSetting> Bench::WriteSetting() {
  if (!write_setting_) {
    printer_.Note("calibrating the raw write");
    CKPT_ASSIGN_OR_RETURN(
        write_setting_, CalibrateWrite(daemon_->disk_folder(), raw_memory(), state_->bytes()));
  }
  return *write_setting_;
}

absl::StatusOr<SaveTimes> SaveAndWait(Bench& bench, Client& client, Part part,
                                      const SaveOptions& options) {
  SaveTimes times;
  times.id = bench.NextId();
  const double begin = Now();
  CKPT_ASSIGN_OR_RETURN(SaveHandle handle, client.Save(times.id, std::move(part), options));
  CKPT_RETURN_IF_ERROR(handle.AwaitStaged());
  const double staged = Now();
  CKPT_RETURN_IF_ERROR(handle.AwaitCommitted());
  times.durable = Now() - staged;
  times.stall = staged - begin;
  return times;
}

absl::StatusOr<std::unique_ptr<Client>> WarmClient(Bench& bench) {
  return WarmClient(bench, bench.daemon());
}

absl::StatusOr<std::unique_ptr<Client>> WarmClient(Bench& bench, BenchDaemon& daemon) {
  CKPT_ASSIGN_OR_RETURN(std::unique_ptr<Client> client, daemon.Connect());
  // Files of an earlier session may still be on their way out.
  const absl::Time deadline = absl::Now() + absl::Seconds(30);
  absl::Status status = client->Prepare(bench.state().bytes());
  while (absl::IsResourceExhausted(status) && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(100));
    status = client->Prepare(bench.state().bytes());
  }
  CKPT_RETURN_IF_ERROR(status);
  for (int i = 0; i < 2; ++i) {
    CKPT_ASSIGN_OR_RETURN(const SaveTimes times,
                          SaveAndWait(bench, *client, bench.state().MakePart(), {}));
    CKPT_RETURN_IF_ERROR(daemon.Delete(times.id));
  }
  return client;
}

v1::Selector SelectorOf(const CheckpointId& id) {
  v1::Selector selector;
  selector.set_run(id.run);
  selector.set_step(id.step);
  selector.set_incarnation(id.incarnation.bytes());
  return selector;
}

}  // namespace ckpt::bench
