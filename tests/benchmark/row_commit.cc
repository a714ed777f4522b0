// Commit latency past the last durable byte. Once a part's data are durable, there is left: the
// part manifest, the renames, the folder's sync, the checkpoint manifest, its sync and rename, the
// folder's sync, the synced batch of the index, and the answer. A part without tensors has exactly
// that to do, so it is measured with one: from staged until AwaitCommitted has returned.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "tests/benchmark/measure.h"
#include "tests/benchmark/rows.h"

namespace ckpt::bench {

absl::Status CommitRow(Bench& bench) {
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, bench.daemon().Connect());
  bench.printer().Note("commit latency");
  auto save = [&]() -> absl::StatusOr<double> {
    CKPT_ASSIGN_OR_RETURN(const SaveTimes times,
                          SaveAndWait(bench, *client, SampleState::MakeEmptyPart(), {}));
    CKPT_RETURN_IF_ERROR(bench.daemon().Delete(times.id));
    return times.durable;
  };
  auto append = [&]() -> absl::StatusOr<double> {
    CKPT_ASSIGN_OR_RETURN(const std::vector<double> seconds,
                          AppendLatencies(bench.daemon().disk_folder(), 20));
    return Median(seconds);
  };
  for (int i = 0; i < 3; ++i) CKPT_RETURN_IF_ERROR(save().status());
  // Milliseconds each: many more pairs.
  const int count = std::max(50, bench.options().pairs);
  CKPT_ASSIGN_OR_RETURN(const Pairs pairs, MeasurePairs(count, save, append));
  bench.printer().Print(
      {"commit", pairs.MeasuredOverBaseline(), "ratio",
       "the median of 20 appends of 4 KiB with fdatasync", Bar{6, false},
       absl::StrCat("a part without tensors, from staged to committed; manifests, syncs, index and "
                    "the answer included; pairs: ",
                    count),
       absl::StrCat(PrintSeconds(Median(pairs.measured)), " over ",
                    PrintSeconds(Median(pairs.baseline)))});
  return absl::OkStatus();
}

}  // namespace ckpt::bench
