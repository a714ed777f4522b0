// The stall: from calling Save to AwaitStaged's return, daemon idle, over one warm memcpy of the
// same bytes. With one copy thread and with two; and, printed only, while the previous save
// persists.
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "tests/benchmark/measure.h"
#include "tests/benchmark/rows.h"

namespace ckpt::bench {
namespace {

constexpr char kBaseline[] =
    "the faster of a per-tensor and a single memcpy, one thread, warm, populated memory";

absl::Status Stall(Bench& bench, Client& client, int threads, double bar) {
  const SampleState& state = bench.state();
  bench.printer().Note(absl::StrCat("stall, copy threads: ", threads));
  auto save = [&]() -> absl::StatusOr<double> {
    SaveOptions options;
    options.copy_threads = threads;
    CKPT_ASSIGN_OR_RETURN(const SaveTimes times,
                          SaveAndWait(bench, client, state.MakePart(), options));
    CKPT_RETURN_IF_ERROR(bench.daemon().Delete(times.id));
    return times.stall;
  };
  auto copy = [&]() -> absl::StatusOr<double> { return state.MeasureCopy(); };
  CKPT_ASSIGN_OR_RETURN(const Pairs pairs, MeasurePairs(bench.options().pairs, save, copy));
  const auto bytes = static_cast<double>(state.bytes());
  const double measured = Median(pairs.measured), baseline = Median(pairs.baseline);
  bench.printer().Print(
      {absl::StrCat("stall_", threads, threads == 1 ? "_thread" : "_threads"),
       pairs.MeasuredOverBaseline(), "ratio", kBaseline, Bar{bar, false},
       absl::StrCat("copy threads: ", threads,
                    "; daemon idle; staging files recycled, mapped and populated"),
       absl::StrCat(PrintSeconds(measured), " (", PrintSpeed(bytes, measured), ") over ",
                    PrintSeconds(baseline), " (", PrintSpeed(bytes, baseline), ")")});
  return absl::OkStatus();
}

// The stall of a save that begins as soon as the one before it is staged.
absl::Status StallWhilePersisting(Bench& bench, Client& client, int threads) {
  const SampleState& state = bench.state();
  bench.printer().Note(
      absl::StrCat("stall while the previous save persists, copy threads: ", threads));
  auto save = [&]() -> absl::StatusOr<double> {
    SaveOptions options;
    options.copy_threads = threads;
    const CheckpointId first_id = bench.NextId(), second_id = bench.NextId();
    CKPT_ASSIGN_OR_RETURN(SaveHandle first, client.Save(first_id, state.MakePart(), options));
    CKPT_RETURN_IF_ERROR(first.AwaitStaged());
    Part part = state.MakePart();
    const double begin = Now();
    CKPT_ASSIGN_OR_RETURN(SaveHandle second, client.Save(second_id, std::move(part), options));
    CKPT_RETURN_IF_ERROR(second.AwaitStaged());
    const double stall = Now() - begin;
    CKPT_RETURN_IF_ERROR(first.AwaitCommitted());
    CKPT_RETURN_IF_ERROR(second.AwaitCommitted());
    CKPT_RETURN_IF_ERROR(bench.daemon().Delete(first_id));
    CKPT_RETURN_IF_ERROR(bench.daemon().Delete(second_id));
    return stall;
  };
  auto copy = [&]() -> absl::StatusOr<double> { return state.MeasureCopy(); };
  CKPT_ASSIGN_OR_RETURN(const Pairs pairs, MeasurePairs(bench.options().pairs, save, copy));
  bench.printer().Print(
      {absl::StrCat("stall_persisting_", threads, threads == 1 ? "_thread" : "_threads"),
       pairs.MeasuredOverBaseline(), "ratio", kBaseline, std::nullopt,
       absl::StrCat("copy threads: ", threads,
                    "; staging files recycled, mapped and populated; the previous save is being "
                    "hashed and written; the memcpy has the machine "
                    "for itself"),
       absl::StrCat(PrintSeconds(Median(pairs.measured)), " over ",
                    PrintSeconds(Median(pairs.baseline)))});
  return absl::OkStatus();
}

}  // namespace

absl::Status StallRow(Bench& bench) {
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, WarmClient(bench));
  CKPT_RETURN_IF_ERROR(Stall(bench, *client, 1, 1.00));
  CKPT_RETURN_IF_ERROR(Stall(bench, *client, 2, 0.70));
  CKPT_RETURN_IF_ERROR(StallWhilePersisting(bench, *client, 1));
  return StallWhilePersisting(bench, *client, 2);
}

}  // namespace ckpt::bench
