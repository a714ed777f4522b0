// Commit latency past the last durable byte: from the last sync of the part's own files and folder,
// which the daemon's answer names, until AwaitCommitted has returned: the checkpoint manifest's
// rename, its folder's sync, the batch of the index, and the answer.
#include <algorithm>

#include "absl/functional/any_invocable.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/byte_size.h"
#include "common/key.h"
#include "common/status_macros.h"
#include "google/protobuf/util/time_util.h"
#include "tests/benchmark/measure.h"
#include "tests/benchmark/rows.h"

namespace ckpt::bench {
namespace {

constexpr uint64_t kSmallPartBytes = uint64_t{1} << 20;

struct Kind {
  const char* name;
  std::string what;
  int pairs;
  absl::AnyInvocable<Part()> make;
};

absl::Status Measure(Bench& bench, Client& client, Kind kind) {
  const auto save_one = [&]() -> absl::StatusOr<CheckpointId> {
    const CheckpointId id = bench.NextId();
    CKPT_ASSIGN_OR_RETURN(SaveHandle handle, client.Save(id, kind.make(), {}));
    CKPT_RETURN_IF_ERROR(handle.AwaitCommitted());
    return id;
  };
  const auto save = [&]() -> absl::StatusOr<double> {
    CKPT_RETURN_IF_ERROR(CheckInterrupt());
    CKPT_ASSIGN_OR_RETURN(const CheckpointId id, save_one());
    const absl::Time told = absl::Now();
    CKPT_ASSIGN_OR_RETURN(const v1::CheckpointInfo info,
                          client.Wait(id, v1::CHECKPOINT_STATE_COMMITTED, absl::Seconds(10)));
    if (!info.has_durable_at()) return absl::InternalError("the daemon names no durable_at");
    const absl::Time durable = absl::FromUnixNanos(
        google::protobuf::util::TimeUtil::TimestampToNanoseconds(info.durable_at()));
    CKPT_RETURN_IF_ERROR(bench.daemon().Delete(id));
    return absl::ToDoubleSeconds(told - durable);
  };
  const auto append = [&]() -> absl::StatusOr<double> {
    CKPT_ASSIGN_OR_RETURN(const std::vector<double> seconds,
                          AppendLatencies(bench.daemon().disk_folder(), 20));
    return Median(seconds);
  };
  bench.printer().Note(absl::StrCat("commit latency, ", kind.what));
  // One that stays, as in a job: its layout and folders are known.
  CKPT_ASSIGN_OR_RETURN(const CheckpointId kept, save_one());
  for (int i = 0; i < 2; ++i) CKPT_RETURN_IF_ERROR(save().status());
  CKPT_ASSIGN_OR_RETURN(const Pairs pairs, MeasurePairs(kind.pairs, save, append));
  bench.printer().Print(
      {kind.name, pairs.MeasuredOverBaseline(), "ratio",
       "the median of 20 appends of 4 KiB with fdatasync, one thread", Bar{6, false},
       absl::StrCat(kind.what, "; copy threads: 1, staging file recycled; from its last sync to "
                    "AwaitCommitted's return; pairs: ", kind.pairs),
       absl::StrCat(PrintSeconds(Median(pairs.measured)), " over ",
                    PrintSeconds(Median(pairs.baseline)))});
  return bench.daemon().Delete(kept);
}

}  // namespace

absl::Status CommitRow(Bench& bench) {
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, bench.daemon().Connect());
  const SampleState& state = bench.state();
  CKPT_RETURN_IF_ERROR(
      Measure(bench, *client,
              {"commit", absl::StrCat("a part of ", PrintByteSize(state.bytes()), " in ",
                                      state.tensors(), " tensors"),
               bench.options().pairs, [&] { return state.MakePart(); }}));
  const std::string bytes(kSmallPartBytes, 'x');
  // Milliseconds each: many more pairs.
  return Measure(bench, *client,
                 {"commit_small",
                  absl::StrCat("a part of one tensor of ", PrintByteSize(kSmallPartBytes)),
                  std::max(50, bench.options().pairs), [&] {
                    Part part;
                    part.leaves.push_back(TensorLeaf(MakeKey({"tensor"}), v1::DTYPE_U8,
                                                     {kSmallPartBytes}, bytes.data()));
                    return part;
                  }});
}

}  // namespace ckpt::bench
