// Sixty-four processes, each a job of its own, save and then restore through one daemon for a
// while, as fast as they can: what the slowest of them gets, beside the fastest.
#include <algorithm>
#include <iostream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "common/byte_size.h"
#include "common/status_macros.h"
#include "tests/benchmark/measure.h"
#include "tests/benchmark/rank_process.h"
#include "tests/benchmark/rows.h"

namespace ckpt::bench {
namespace {

constexpr uint32_t kRanksMax = 64;
constexpr uint32_t kRanksMin = 8;
constexpr uint32_t kBusyMillisecondsMax = 20'000;
constexpr uint32_t kBusyMillisecondsMin = 500;

struct Work {
  std::string mode;  // "save", "restore"
  uint32_t ranks = 0;
  uint64_t bytes = 0;  // of a rank's state
  uint32_t milliseconds = 0;
};

// How often each rank has done it.
absl::StatusOr<std::vector<double>> Rounds(Bench& bench, const BenchDaemon& daemon,
                                           const Work& work) {
  std::vector<std::unique_ptr<RankProcess>> ranks;
  for (uint32_t i = 0; i < work.ranks; ++i) {
    CKPT_ASSIGN_OR_RETURN(
        ranks.emplace_back(),
        RankProcess::Start({bench.binary(), "--busy-rank", daemon.socket(),
                            absl::StrCat("fair/", work.mode, "-", i), absl::StrCat(work.bytes),
                            absl::StrCat(work.milliseconds), work.mode}));
  }
  for (const auto& rank : ranks) CKPT_RETURN_IF_ERROR(rank->Listen().status());
  for (const auto& rank : ranks) rank->Go();
  std::vector<double> rounds;
  for (const auto& rank : ranks) {
    CKPT_ASSIGN_OR_RETURN(const std::string said, rank->Listen());
    if (!absl::SimpleAtod(said, &rounds.emplace_back())) {
      return absl::InternalError(absl::StrCat("a busy rank said ", said));
    }
  }
  return rounds;
}

// Until the time is over, and how often within it: the last round counts for the part of it that
// lies within.
template <typename Round>
absl::StatusOr<double> Repeat(double seconds, Round round) {
  const double begin = Now();
  double done = 0;
  for (double before = begin;;) {
    CKPT_RETURN_IF_ERROR(round());
    const double after = Now();
    if (after - begin < seconds) {
      ++done;
      before = after;
      continue;
    }
    return done + (begin + seconds - before) / (after - before);
  }
}

absl::StatusOr<double> BeBusy(const std::vector<std::string>& arguments) {
  uint64_t bytes = 0;
  uint32_t milliseconds = 0;
  if (!absl::SimpleAtoi(arguments[3], &bytes) || !absl::SimpleAtoi(arguments[4], &milliseconds)) {
    return absl::InvalidArgumentError("--busy-rank: a number is wrong");
  }
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<SampleState> state, SampleState::Make(bytes));
  ClientOptions options;
  options.socket = arguments[1];
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, Client::Connect(options));
  CheckpointId id{arguments[2], 0, Incarnation::TimeOrdered()};
  const auto save = [&]() -> absl::Status {
    ++id.step;
    CKPT_ASSIGN_OR_RETURN(SaveHandle handle, client->Save(id, state->MakePart(), {}));
    return handle.AwaitCommitted();
  };
  const auto restore = [&]() -> absl::Status {
    CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<RestorePlan> plan,
                          client->PlanRestore(SelectorOf(id), {}));
    return state->Read(*plan);
  };
  const bool saves = arguments[5] == "save";
  CKPT_RETURN_IF_ERROR(save());
  if (!saves) CKPT_RETURN_IF_ERROR(restore());
  SayReadyAndWait();
  const double seconds = milliseconds / 1000.0;
  return saves ? Repeat(seconds, save) : Repeat(seconds, restore);
}

}  // namespace

absl::Status FairRow(Bench& bench) {
  // Each run keeps its newest: a rank that saves for long does not fill the disk.
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<BenchDaemon> daemon,
                        BenchDaemon::StartWith(bench.options(), {"--keep-last=1"}));
  Work work;
  work.ranks = bench.Scaled(kRanksMax, kRanksMin);
  work.bytes = bench.Scaled(8 << 20, 64 << 10) / 4096 * 4096;
  work.milliseconds = bench.Scaled(kBusyMillisecondsMax, kBusyMillisecondsMin);
  for (const char* mode : {"save", "restore"}) {
    CKPT_RETURN_IF_ERROR(CheckInterrupt());
    work.mode = mode;
    bench.printer().Note(absl::StrCat(work.ranks, " ranks ", mode, " at once"));
    CKPT_ASSIGN_OR_RETURN(const std::vector<double> rounds, Rounds(bench, *daemon, work));
    const auto [least, most] = std::minmax_element(rounds.begin(), rounds.end());
    bench.printer().Print(
        {absl::StrCat("fair_", mode), *most / std::max(*least, 1e-3), "ratio",
         "what the slowest rank has done in the same time", Bar{1.50, false},
         absl::StrCat(work.ranks, " processes, each a run of its own with ",
                      PrintByteSize(work.bytes), ", one copy thread, ",
                      absl::FormatDuration(absl::Milliseconds(work.milliseconds)),
                      work.mode == "save" ? "; to the commit" : "; from memory, verified"),
         absl::StrFormat("%.1f to %.1f rounds a rank", *least, *most)});
  }
  return absl::OkStatus();
}

int BusyRank(const std::vector<std::string>& arguments) {
  const absl::StatusOr<double> rounds = BeBusy(arguments);
  if (!rounds.ok()) {
    std::cerr << rounds.status() << "\n";
    return 1;
  }
  std::cout << *rounds << std::endl;
  return 0;
}

}  // namespace ckpt::bench
