#include "tests/benchmark/rank_process.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <iostream>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/time/time.h"
#include "common/status_macros.h"
#include "tests/fixtures/process.h"

namespace ckpt::bench {

absl::StatusOr<std::unique_ptr<RankProcess>> RankProcess::Start(
    std::vector<std::string> arguments) {
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

RankProcess::~RankProcess() {
  Go();
  if (pid_ != 0) (void)testing::AwaitProcess(pid_, absl::Minutes(5));
  if (answers_ != nullptr) fclose(answers_);
}

absl::StatusOr<std::string> RankProcess::Listen() {
  char line[256];
  if (fgets(line, sizeof(line), answers_) != nullptr) {
    return std::string(absl::StripAsciiWhitespace(line));
  }
  return absl::InternalError("one of the processes at work ended early");
}

void RankProcess::Go() {
  if (go_ >= 0) close(std::exchange(go_, -1));
}

void SayReadyAndWait() {
  std::cout << "ready" << std::endl;
  std::cin.get();
}

}  // namespace ckpt::bench
