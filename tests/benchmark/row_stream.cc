// The stream transport: a save through gRPC (CRC of each chunk on both sides, into a tmpfs file),
// beside a gRPC stream of the same chunks that nobody looks at.
#include "absl/strings/str_cat.h"
#include "common/byte_size.h"
#include "common/limits.h"
#include "common/status_macros.h"
#include "tests/benchmark/bare_stream.h"
#include "tests/benchmark/measure.h"
#include "tests/benchmark/rows.h"

namespace ckpt::bench {

absl::Status StreamRow(Bench& bench) {
  const SampleState& state = bench.state();
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<BareStream> bare, BareStream::Start(bench.binary()));
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, bench.daemon().Connect());
  bench.printer().Note("stream transport");
  auto save = [&]() -> absl::StatusOr<double> {
    SaveOptions options;
    options.transport = v1::TRANSPORT_STREAM;
    CKPT_ASSIGN_OR_RETURN(const SaveTimes times,
                          SaveAndWait(bench, *client, state.MakePart(), options));
    CKPT_RETURN_IF_ERROR(bench.daemon().Delete(times.id));
    return times.stall;
  };
  auto send = [&] { return bare->Send(state.source(), state.bytes(), kChunkBytesMax); };
  CKPT_RETURN_IF_ERROR(save().status());
  CKPT_RETURN_IF_ERROR(send().status());
  CKPT_ASSIGN_OR_RETURN(const Pairs pairs, MeasurePairs(bench.options().pairs, save, send));
  const auto bytes = static_cast<double>(state.bytes());
  bench.printer().Print(
      {"stream", pairs.BaselineOverMeasured(), "ratio",
       "a bare gRPC client stream of byte buffers, without protobuf and without copies of our own",
       Bar{0.80, true},
       absl::StrCat("chunks of ", PrintByteSize(kChunkBytesMax),
                    "; unix socket; one thread sends and one receives, in a process of its own, on "
                    "both sides; state populated, staging file recycled; from Save to staged, CRC "
                    "on"),
       absl::StrCat(PrintSpeed(bytes, Median(pairs.measured)), " over ",
                    PrintSpeed(bytes, Median(pairs.baseline)))});
  return absl::OkStatus();
}

}  // namespace ckpt::bench
