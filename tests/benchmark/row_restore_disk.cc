// Restore from cold disk: nothing in the memory tier, nothing in the page cache; beside the best
// raw cold read of the same files.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "tests/benchmark/measure.h"
#include "tests/benchmark/rows.h"

namespace ckpt::bench {

absl::Status RestoreDiskRow(Bench& bench) {
  const SampleState& state = bench.state();
  CheckpointId id;
  {
    CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<Client> saver, WarmClient(bench));
    CKPT_ASSIGN_OR_RETURN(const SaveTimes saved, SaveAndWait(bench, *saver, state.MakePart(), {}));
    id = saved.id;
  }
  CKPT_RETURN_IF_ERROR(bench.daemon().Restart(/*forget_memory=*/true));
  const std::vector<std::string> files = bench.daemon().DataFiles();
  if (files.empty()) return absl::InternalError("no data files in the data folder");
  const absl::Span<std::byte> memory = bench.raw_memory();
  bench.printer().Note("calibrating the raw cold read");
  CKPT_ASSIGN_OR_RETURN(const RawSetting setting,
                        CalibrateRead(files, memory.data(), memory.size()));
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, bench.daemon().Connect());
  bench.printer().Note("restore from cold disk");
  auto restore = [&]() -> absl::StatusOr<double> {
    CKPT_RETURN_IF_ERROR(DropFromCache(files));
    RestoreOptions options;
    options.threads = 2;
    ReadStatistics statistics;
    const double begin = Now();
    CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<RestorePlan> plan,
                          client->PlanRestore(SelectorOf(id), options));
    CKPT_RETURN_IF_ERROR(state.Read(*plan, &statistics));
    const double seconds = Now() - begin;
    if (statistics.bytes_from_disk < state.bytes()) {
      return absl::FailedPreconditionError(
          absl::StrCat("only ", statistics.bytes_from_disk, " bytes came from disk"));
    }
    return seconds;
  };
  RawSetting several = setting;  // some read while others add up
  several.threads = std::max(setting.threads, 4);
  const auto raw_read = [&](bool add_up) -> absl::StatusOr<double> {
    CKPT_RETURN_IF_ERROR(DropFromCache(files));
    return RawRead(files, memory.data(), memory.size(), add_up ? several : setting, add_up);
  };
  const auto raw = [&] { return raw_read(false); };
  const auto raw_and_added_up = [&] { return raw_read(true); };
  state.ScrubDestination();
  CKPT_RETURN_IF_ERROR(restore().status());
  CKPT_RETURN_IF_ERROR(state.CheckDestination());
  CKPT_ASSIGN_OR_RETURN(const Pairs pairs, MeasurePairs(bench.options().pairs, restore, raw));
  const auto bytes = static_cast<double>(state.bytes());
  bench.printer().Print(
      {"restore_disk", pairs.BaselineOverMeasured(), "ratio",
       "the best raw cold read of the same files", Bar{0.95, true},
       absl::StrCat("threads: 2; verified; page cache dropped and checked by mincore, destination "
                    "populated; planning included; raw: ",
                    setting.ToString(), ", into populated 2 MiB pages"),
       absl::StrCat(PrintSpeed(bytes, Median(pairs.measured)), " over ",
                    PrintSpeed(bytes, Median(pairs.baseline)))});
  // How much of the ratio is the machine's: what touching the bytes at all takes from its disk.
  CKPT_ASSIGN_OR_RETURN(const Pairs added, MeasurePairs(bench.options().pairs, raw_and_added_up, raw));
  bench.printer().Print({"raw_read_added_up", added.BaselineOverMeasured(), "ratio",
                         "the best raw cold read of the same files", std::nullopt,
                         absl::StrCat("a raw read by ", several.threads, " threads that add up the "
                                      "words of what they have read: no part of ckptd; a disk that "
                                      "reads slower while the processors work shows here"),
                         absl::StrCat(PrintSpeed(bytes, Median(added.measured)), " over ",
                                      PrintSpeed(bytes, Median(added.baseline)))});
  return bench.daemon().Delete(id);
}

}  // namespace ckpt::bench
