// Restore from the memory tier: plan and read, every block verified, two threads, into populated
// memory; beside a one-thread memcpy. In a session that has the file mapped already, and, printed
// only, in a process that has just been started.
#include <cstdio>
#include <iostream>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "tests/benchmark/measure.h"
#include "tests/benchmark/rows.h"
#include "tests/fixtures/process.h"

namespace ckpt::bench {
namespace {

absl::StatusOr<double> TimedRestore(const SampleState& state, Client& client,
                                    const v1::Selector& selector) {
  RestoreOptions options;
  options.threads = 2;
  ReadStatistics statistics;
  const double begin = Now();
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<RestorePlan> plan,
                        client.PlanRestore(selector, options));
  CKPT_RETURN_IF_ERROR(state.Read(*plan, &statistics));
  const double seconds = Now() - begin;
  if (statistics.bytes_from_memory != state.bytes()) {
    return absl::FailedPreconditionError(
        absl::StrCat("only ", statistics.bytes_from_memory, " bytes came from the memory tier"));
  }
  return seconds;
}

}  // namespace

absl::Status RestoreMemoryRow(Bench& bench) {
  const SampleState& state = bench.state();
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<Client> saver, WarmClient(bench));
  CKPT_ASSIGN_OR_RETURN(const SaveTimes saved, SaveAndWait(bench, *saver, state.MakePart(), {}));
  const v1::Selector selector = SelectorOf(saved.id);
  bench.printer().Note("restore from memory");
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, bench.daemon().Connect());
  state.ScrubDestination();
  CKPT_RETURN_IF_ERROR(TimedRestore(state, *client, selector).status());  // maps and populates
  CKPT_RETURN_IF_ERROR(state.CheckDestination());
  auto restore = [&] { return TimedRestore(state, *client, selector); };
  auto copy = [&]() -> absl::StatusOr<double> { return state.MeasureCopy(); };
  CKPT_ASSIGN_OR_RETURN(const Pairs pairs, MeasurePairs(bench.options().pairs, restore, copy));
  const auto bytes = static_cast<double>(state.bytes());
  auto figures = [&](const Pairs& pairs) {
    return absl::StrCat(PrintSpeed(bytes, Median(pairs.measured)), " over ",
                        PrintSpeed(bytes, Median(pairs.baseline)));
  };
  const char* baseline = "the faster of a per-tensor and a single memcpy, one thread, warm";
  bench.printer().Print({"restore_memory", pairs.BaselineOverMeasured(), "ratio", baseline,
                         Bar{0.90, true},
                         "threads: 2; verified; file mapped and populated, destination populated; "
                         "planning included",
                         figures(pairs)});

  auto fresh = [&]() -> absl::StatusOr<double> {
    CKPT_ASSIGN_OR_RETURN(
        const testing::CommandResult result,
        testing::RunCommand(
            {bench.binary(), "--fresh-restore", bench.daemon().socket(),
             absl::StrCat(saved.id.run, "@", saved.id.step), absl::StrCat(state.bytes())},
            {}, absl::Minutes(5)));
    double seconds = 0;
    if (result.exit_status != 0 ||
        !absl::SimpleAtod(absl::StripAsciiWhitespace(result.output), &seconds)) {
      return absl::InternalError(absl::StrCat("fresh restore failed: ", result.errors));
    }
    return seconds;
  };
  CKPT_ASSIGN_OR_RETURN(const Pairs fresh_pairs, MeasurePairs(bench.options().pairs, fresh, copy));
  bench.printer().Print({"restore_memory_fresh_process", fresh_pairs.BaselineOverMeasured(),
                         "ratio", baseline, std::nullopt,
                         "threads: 2; verified; a process that has just been started: connecting, "
                         "planning and mapping included; destination populated",
                         figures(fresh_pairs)});
  return bench.daemon().Delete(saved.id);
}

int FreshRestore(const std::string& socket, const std::string& selector, uint64_t state_bytes) {
  auto run = [&]() -> absl::StatusOr<double> {
    CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<SampleState> state, SampleState::Make(state_bytes));
    CKPT_ASSIGN_OR_RETURN(const v1::Selector parsed, ParseSelector(selector));
    ClientOptions options;
    options.socket = socket;
    const double begin = Now();
    CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, Client::Connect(options));
    const double connected = Now() - begin;
    CKPT_ASSIGN_OR_RETURN(const double seconds, TimedRestore(*state, *client, parsed));
    CKPT_RETURN_IF_ERROR(state->CheckDestination());
    return connected + seconds;
  };
  const absl::StatusOr<double> seconds = run();
  if (!seconds.ok()) {
    std::cerr << seconds.status() << "\n";
    return 1;
  }
  std::printf("%.6f\n", *seconds);
  return 0;
}

}  // namespace ckpt::bench
