// What it costs to know that bytes are right: the durable save with the hashes of its blocks
// computed, beside a daemon that leaves them out (--hash-blocks=false); a restore whose blocks are
// checked, beside one whose are not, from cold disk and, printed only, from the memory tier.
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "tests/benchmark/measure.h"
#include "tests/benchmark/rows.h"

namespace ckpt::bench {
namespace {

constexpr Bar kBar{1.03, false};

std::string Figures(const Bench& bench, const Pairs& pairs) {
  const auto bytes = static_cast<double>(bench.state().bytes());
  return absl::StrCat(PrintSpeed(bytes, Median(pairs.measured)), " beside ",
                      PrintSpeed(bytes, Median(pairs.baseline)));
}

absl::Status DurableSaves(Bench& bench) {
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<BenchDaemon> without,
                        BenchDaemon::StartWith(bench.options(), {"--hash-blocks=false"}));
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, WarmClient(bench));
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<Client> plain, WarmClient(bench, *without));
  bench.printer().Note("durable saves with and without hashes");
  const auto save = [&](Client& saver, BenchDaemon& daemon) -> absl::StatusOr<double> {
    CKPT_ASSIGN_OR_RETURN(const SaveTimes times,
                          SaveAndWait(bench, saver, bench.state().MakePart(), {}));
    CKPT_RETURN_IF_ERROR(daemon.Delete(times.id));
    CKPT_RETURN_IF_ERROR(daemon.AwaitIdle());
    return times.durable;
  };
  CKPT_ASSIGN_OR_RETURN(const Pairs pairs,
                        MeasurePairs(bench.options().pairs,
                                     [&] { return save(*client, bench.daemon()); },
                                     [&] { return save(*plain, *without); }));
  bench.printer().Print({"verification_durable", pairs.MeasuredOverBaseline(), "ratio",
                         "the same save through a daemon that computes no hashes", kBar,
                         "from staged to committed; one thread reads and hashes, four write",
                         Figures(bench, pairs)});
  return absl::OkStatus();
}

// One checkpoint, restored checked and unchecked, from wherever it lies.
class Restores {
 public:
  Restores(Bench& bench, Client& client, CheckpointId id, std::vector<std::string> cold)
      : bench_(bench), client_(client), id_(std::move(id)), cold_(std::move(cold)) {}

  absl::StatusOr<Pairs> Measure() {
    bench_.state().ScrubDestination();
    for (const bool verify : {true, false}) {
      CKPT_RETURN_IF_ERROR(Restore(verify).status());
      CKPT_RETURN_IF_ERROR(bench_.state().CheckDestination());
    }
    return MeasurePairs(bench_.options().pairs, [this] { return Restore(true); },
                        [this] { return Restore(false); });
  }

 private:
  absl::StatusOr<double> Restore(bool verify) {
    if (!cold_.empty()) CKPT_RETURN_IF_ERROR(DropFromCache(cold_));
    RestoreOptions options;
    options.threads = 2;
    options.verify = verify;
    ReadStatistics statistics;
    const double begin = Now();
    CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<RestorePlan> plan,
                          client_.PlanRestore(SelectorOf(id_), options));
    CKPT_RETURN_IF_ERROR(bench_.state().Read(*plan, &statistics));
    const double seconds = Now() - begin;
    const uint64_t read = cold_.empty() ? statistics.bytes_from_memory : statistics.bytes_from_disk;
    if (read >= bench_.state().bytes() && (statistics.bytes_hashed > 0) == verify) return seconds;
    return absl::FailedPreconditionError(absl::StrCat(
        "only ", read, " bytes came from the tier; ", statistics.bytes_hashed, " were hashed"));
  }

  Bench& bench_;
  Client& client_;
  const CheckpointId id_;
  const std::vector<std::string> cold_;  // empty: the memory tier has it
};

}  // namespace

absl::Status VerificationRow(Bench& bench) {
  CKPT_RETURN_IF_ERROR(DurableSaves(bench));
  const char* baseline = "the same restore without checking";
  const char* conditions = "threads: 2; destination populated; planning included";
  CheckpointId id;
  {
    CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, WarmClient(bench));
    CKPT_ASSIGN_OR_RETURN(const SaveTimes saved,
                          SaveAndWait(bench, *client, bench.state().MakePart(), {}));
    id = saved.id;
    bench.printer().Note("restores from memory, checked and unchecked");
    CKPT_ASSIGN_OR_RETURN(const Pairs pairs, Restores(bench, *client, id, {}).Measure());
    bench.printer().Print({"verification_restore_memory", pairs.MeasuredOverBaseline(), "ratio",
                           baseline, std::nullopt, conditions, Figures(bench, pairs)});
  }
  CKPT_RETURN_IF_ERROR(bench.daemon().Restart(/*forget_memory=*/true));
  const std::vector<std::string> files = bench.daemon().DataFiles();
  if (files.empty()) return absl::InternalError("no data files in the data folder");
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, bench.daemon().Connect());
  bench.printer().Note("restores from cold disk, checked and unchecked");
  CKPT_ASSIGN_OR_RETURN(const Pairs pairs, Restores(bench, *client, id, files).Measure());
  bench.printer().Print(
      {"verification_restore_disk", pairs.MeasuredOverBaseline(), "ratio", baseline, kBar,
       absl::StrCat(conditions, "; page cache dropped and checked by mincore"),
       Figures(bench, pairs)});
  return bench.daemon().Delete(id);
}

}  // namespace ckpt::bench
