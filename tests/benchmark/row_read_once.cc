// Eight rank processes restore the same checkpoint at the same time: what the disk gives for it.
#include <iostream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/byte_size.h"
#include "common/status_macros.h"
#include "tests/benchmark/measure.h"
#include "tests/benchmark/rank_process.h"
#include "tests/benchmark/rows.h"
#include "tests/fixtures/process.h"

namespace ckpt::bench {
namespace {

constexpr uint32_t kRanks = 8;

// Bytes that all of them together read from disk.
absl::StatusOr<uint64_t> RestoreTogether(Bench& bench, const CheckpointId& id,
                                         uint64_t state_bytes) {
  std::vector<std::unique_ptr<RankProcess>> ranks;
  for (uint32_t i = 0; i < kRanks; ++i) {
    CKPT_ASSIGN_OR_RETURN(
        ranks.emplace_back(),
        RankProcess::Start({bench.binary(), "--restore-rank", bench.daemon().socket(),
                            absl::StrCat(id.run, "@", id.step),
                            absl::StrCat(state_bytes), absl::StrCat(kRanks)}));
  }
  for (const auto& rank : ranks) CKPT_RETURN_IF_ERROR(rank->Listen().status());
  for (const auto& rank : ranks) rank->Go();
  uint64_t sum = 0;
  for (const auto& rank : ranks) {
    CKPT_ASSIGN_OR_RETURN(const std::string said, rank->Listen());
    uint64_t bytes = 0;
    if (!absl::SimpleAtoi(said, &bytes)) return absl::InternalError(absl::StrCat("said ", said));
    sum += bytes;
  }
  return sum;
}

}  // namespace

absl::Status ReadOnceRow(Bench& bench) {
  CheckpointId id;
  // Half of the state: eight ranks hold it at once.
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<SampleState> state,
                        SampleState::Make(bench.state().bytes() / 2 / 4096 * 4096));
  {
    CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<Client> saver, bench.daemon().Connect());
    CKPT_ASSIGN_OR_RETURN(const SaveTimes saved, SaveAndWait(bench, *saver, state->MakePart(), {}));
    id = saved.id;
  }
  CKPT_RETURN_IF_ERROR(bench.daemon().Restart(/*forget_memory=*/true));
  const std::vector<std::string> files = bench.daemon().DataFiles();
  bench.printer().Note("eight ranks restore the same");
  std::vector<double> ratios;
  uint64_t read = 0;
  for (int i = 0; i < 3; ++i) {
    CKPT_RETURN_IF_ERROR(CheckInterrupt());
    CKPT_RETURN_IF_ERROR(DropFromCache(files));
    CKPT_ASSIGN_OR_RETURN(read, RestoreTogether(bench, id, state->bytes()));
    ratios.push_back(static_cast<double>(read) / static_cast<double>(state->bytes()));
  }
  bench.printer().Print({"read_once", Median(ratios), "ratio", "the bytes that each of them asks for",
                         Bar{1.05, false},
                         "8 processes at once, threads: 2 in each; verified; cold; counted by the "
                         "kernel (read_bytes of /proc/PID/io)",
                         absl::StrCat(PrintByteSize(read), " read for 8 times ",
                                      PrintByteSize(state->bytes()))});
  return bench.daemon().Delete(id);
}

int RestoreRank(const std::string& socket, const std::string& selector, uint64_t state_bytes,
                uint32_t together) {
  const auto run = [&]() -> absl::StatusOr<uint64_t> {
    CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<SampleState> state,
                          SampleState::MakeEmpty(state_bytes));
    CKPT_ASSIGN_OR_RETURN(const v1::Selector parsed, ParseSelector(selector));
    ClientOptions client_options;
    client_options.socket = socket;
    CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, Client::Connect(client_options));
    SayReadyAndWait();
    RestoreOptions options;
    options.threads = 2;
    options.ranks_together = together;
    const uint64_t before = testing::BytesReadFromDisk();
    CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<RestorePlan> plan,
                          client->PlanRestore(parsed, options));
    CKPT_RETURN_IF_ERROR(state->Read(*plan));
    return testing::BytesReadFromDisk() - before;
  };
  const absl::StatusOr<uint64_t> read = run();
  if (!read.ok()) {
    std::cerr << read.status() << "\n";
    return 1;
  }
  std::cout << *read << std::endl;
  return 0;
}

}  // namespace ckpt::bench
