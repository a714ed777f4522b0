// Eight rank processes restore the same checkpoint at the same time: what the disk gives for it.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <iostream>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/byte_size.h"
#include "common/status_macros.h"
#include "tests/benchmark/measure.h"
#include "tests/benchmark/rows.h"
#include "tests/fixtures/process.h"

namespace ckpt::bench {
namespace {

constexpr uint32_t kRanks = 8;

// A rank: says that it is ready, waits until its stdin ends, restores, says what it read from disk.
class RankProcess {
 public:
  static absl::StatusOr<std::unique_ptr<RankProcess>> Start(std::vector<std::string> arguments) {
    std::unique_ptr<RankProcess> rank(new RankProcess());
    int input[2];
    int output[2];
    if (pipe2(input, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "pipe");
    rank->go_ = input[1];
    const absl::Cleanup close_input = [&] { close(input[0]); };
    if (pipe2(output, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "pipe");
    rank->answers_ = fdopen(output[0], "r");
    const absl::Cleanup close_output = [&] { close(output[1]); };
    testing::SpawnOptions spawn;
    spawn.arguments = std::move(arguments);
    spawn.input = input[0];
    spawn.output_descriptor = output[1];
    spawn.errors_descriptor = STDERR_FILENO;
    CKPT_ASSIGN_OR_RETURN(rank->pid_, testing::Spawn(spawn));
    return rank;
  }
  ~RankProcess() {
    Go();
    if (pid_ != 0) (void)testing::AwaitProcess(pid_, absl::Minutes(5));
    if (answers_ != nullptr) fclose(answers_);
  }
  // The next line that it says.
  absl::StatusOr<std::string> Listen() {
    char line[64];
    if (fgets(line, sizeof(line), answers_) != nullptr) {
      return std::string(absl::StripAsciiWhitespace(line));
    }
    return absl::InternalError("a restoring rank ended early");
  }
  void Go() {
    if (go_ >= 0) close(std::exchange(go_, -1));
  }

 private:
  RankProcess() = default;
  pid_t pid_ = 0;
  int go_ = -1;
  FILE* answers_ = nullptr;
};

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
    std::cout << "ready" << std::endl;
    std::cin.get();
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
