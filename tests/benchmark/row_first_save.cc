// The first save after Prepare, over the third save of the same session. A new session for each
// pair.
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "tests/benchmark/measure.h"
#include "tests/benchmark/rows.h"

namespace ckpt::bench {

absl::Status FirstSaveRow(Bench& bench) {
  const SampleState& state = bench.state();
  bench.printer().Note("first save after Prepare");
  Pairs pairs;
  std::vector<double> preparing;
  for (int i = 0; i < bench.options().pairs; ++i) {
    CKPT_RETURN_IF_ERROR(CheckInterrupt());
    CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, bench.daemon().Connect());
    const absl::Time deadline = absl::Now() + absl::Seconds(30);
    double begin = Now();
    absl::Status prepared = client->Prepare(state.bytes());
    // The files of the session before may still be on their way out.
    while (absl::IsResourceExhausted(prepared) && absl::Now() < deadline) {
      absl::SleepFor(absl::Milliseconds(100));
      begin = Now();
      prepared = client->Prepare(state.bytes());
    }
    CKPT_RETURN_IF_ERROR(prepared);
    preparing.push_back(Now() - begin);
    double stalls[3] = {};
    for (double& stall : stalls) {
      CKPT_ASSIGN_OR_RETURN(const SaveTimes times,
                            SaveAndWait(bench, *client, state.MakePart(), {}));
      CKPT_RETURN_IF_ERROR(bench.daemon().Delete(times.id));
      stall = times.stall;
    }
    pairs.measured.push_back(stalls[0]);
    pairs.baseline.push_back(stalls[2]);
  }
  bench.printer().Print(
      {"first_save", pairs.MeasuredOverBaseline(), "ratio", "the third save of the same session",
       Bar{1.2, false},
       absl::StrCat("copy threads: 1; state populated; a new session for each pair, its staging "
                    "files mapped and populated by Prepare, which took ",
                    PrintSeconds(Median(preparing))),
       absl::StrCat(PrintSeconds(Median(pairs.measured)), " over ",
                    PrintSeconds(Median(pairs.baseline)))});
  return absl::OkStatus();
}

}  // namespace ckpt::bench
