// Bytes made durable per second: from staged to committed (read, hashed, written, every sync, both
// manifests, the index), beside a raw write of as many bytes and files.
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "tests/benchmark/measure.h"
#include "tests/benchmark/rows.h"

namespace ckpt::bench {

absl::Status DurableRow(Bench& bench) {
  const SampleState& state = bench.state();
  CKPT_ASSIGN_OR_RETURN(const RawSetting setting, bench.WriteSetting());
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, WarmClient(bench));
  bench.printer().Note("bytes made durable per second");
  auto save = [&]() -> absl::StatusOr<double> {
    CKPT_ASSIGN_OR_RETURN(const SaveTimes times, SaveAndWait(bench, *client, state.MakePart(), {}));
    CKPT_RETURN_IF_ERROR(bench.daemon().Delete(times.id));
    return times.durable;
  };
  auto raw = [&] {
    return RawWrite(bench.daemon().disk_folder(), bench.raw_memory(), state.bytes(), setting);
  };
  CKPT_ASSIGN_OR_RETURN(const Pairs pairs, MeasurePairs(bench.options().pairs, save, raw));
  const auto bytes = static_cast<double>(state.bytes());
  bench.printer().Print(
      {"durable", pairs.BaselineOverMeasured(), "ratio",
       "a raw O_DIRECT write from populated memory: a new preallocated file and two small ones, "
       "fdatasync",
       Bar{0.92, true},
       absl::StrCat("raw: ", setting.ToString(),
                    ", from populated memory; ckptd: from staged to committed, hashing on, staging "
                    "file populated, one thread reads and hashes, four write; both from buffers of "
                    "2 MiB pages, used again and again"),
       absl::StrCat(PrintSpeed(bytes, Median(pairs.measured)), " over ",
                    PrintSpeed(bytes, Median(pairs.baseline)))});
  return absl::OkStatus();
}

}  // namespace ckpt::bench
