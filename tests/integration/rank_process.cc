#include "tests/integration/rank_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "tests/fixtures/daemon.h"
#include "tests/fixtures/process.h"

namespace ckpt::testing {
namespace {

absl::Status StatusOf(const absl::StatusOr<nlohmann::json>& answer) {
  if (!answer.ok()) return answer.status();
  return absl::Status(static_cast<absl::StatusCode>((*answer)["code"].get<int>()),
                      (*answer)["message"].get<std::string>());
}

nlohmann::json Describe(const RankSave& save) {
  return {{"run", save.id.run},
          {"step", save.id.step},
          {"incarnation", save.id.incarnation.hex()},
          {"rank", save.rank},
          {"world_size", save.world_size},
          {"seed", save.seed},
          {"bytes", save.bytes},
          {"plain", save.plain},
          {"stream", save.stream},
          {"on_full", save.on_full},
          {"replace", save.replace},
          {"join_ms", save.join_ms},
          {"hold_at", save.hold_at}};
}

}  // namespace

absl::StatusOr<std::unique_ptr<RankProcess>> RankProcess::Start(const std::string& socket) {
  int commands[2];
  int answers[2];
  if (pipe2(commands, O_CLOEXEC) != 0 || pipe2(answers, O_CLOEXEC) != 0) {
    return absl::ErrnoToStatus(errno, "pipe2");
  }
  const absl::StatusOr<pid_t> pid = Spawn({.arguments = {BuiltBinary("test_rank"), socket},
                                           .output_descriptor = answers[1],
                                           .errors = "/dev/stderr",
                                           .input = commands[0]});
  close(commands[0]);
  close(answers[1]);
  if (!pid.ok()) {
    close(commands[1]);
    close(answers[0]);
    return pid.status();
  }
  std::unique_ptr<RankProcess> rank(new RankProcess(*pid, commands[1], answers[0]));
  CKPT_RETURN_IF_ERROR(StatusOf(rank->Ask({{"do", "connect"}})));
  return rank;
}

RankProcess::~RankProcess() {
  Kill();
  close(commands_);
  close(answers_);
}

void RankProcess::Kill() {
  if (pid_ == 0) return;
  kill(pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
  pid_ = 0;
}

void RankProcess::Signal(int number) {
  if (pid_ != 0) kill(pid_, number);
}

absl::StatusOr<std::string> RankProcess::ReadLine(absl::Time deadline) {
  for (;;) {
    const size_t end = buffered_.find('\n');
    if (end != std::string::npos) {
      const std::string line = buffered_.substr(0, end);
      buffered_.erase(0, end + 1);
      return line;
    }
    pollfd ready{.fd = answers_, .events = POLLIN, .revents = 0};
    const int64_t left = std::max<int64_t>(0, absl::ToInt64Milliseconds(deadline - absl::Now()));
    const int polled = poll(&ready, 1, static_cast<int>(left) + 1);
    if (polled < 0 && errno == EINTR) continue;
    if (polled == 0) return absl::DeadlineExceededError("the rank process does not answer");
    char bytes[4096];
    const ssize_t got = read(answers_, bytes, sizeof(bytes));
    if (got <= 0) return absl::UnknownError("the rank process ended");
    buffered_.append(bytes, static_cast<size_t>(got));
  }
}

absl::StatusOr<nlohmann::json> RankProcess::Ask(const nlohmann::json& command,
                                                absl::Duration timeout) {
  const std::string line = command.dump() + "\n";
  signal(SIGPIPE, SIG_IGN);  // a rank that was killed does not read any more
  if (write(commands_, line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
    return absl::ErrnoToStatus(errno, "telling the rank process");
  }
  CKPT_ASSIGN_OR_RETURN(const std::string answer, ReadLine(absl::Now() + timeout));
  nlohmann::json parsed = nlohmann::json::parse(answer, nullptr, false);
  if (parsed.is_discarded() || !parsed.contains("code") || !parsed.contains("message")) {
    return absl::UnknownError(absl::StrCat("the rank process answered: ", answer));
  }
  return parsed;
}

absl::Status RankProcess::Save(const RankSave& save) {
  nlohmann::json command = Describe(save);
  command["do"] = "save";
  return StatusOf(Ask(command));
}

absl::Status RankProcess::AwaitStaged(absl::Duration timeout) {
  return StatusOf(Ask({{"do", "staged"}, {"timeout_ms", absl::ToInt64Milliseconds(timeout)}},
                      timeout + absl::Seconds(60)));
}

absl::Status RankProcess::AwaitCommitted(absl::Duration timeout) {
  return StatusOf(Ask({{"do", "committed"}, {"timeout_ms", absl::ToInt64Milliseconds(timeout)}},
                      timeout + absl::Seconds(60)));
}

absl::Status RankProcess::AwaitHeld() { return StatusOf(Ask({{"do", "await_held"}})); }
absl::Status RankProcess::Release() { return StatusOf(Ask({{"do", "release"}})); }

absl::Status RankProcess::Restore(const std::string& selector, const RankSave& save) {
  nlohmann::json command = Describe(save);
  command["do"] = "restore";
  command["selector"] = selector;
  return StatusOf(Ask(command));
}

absl::StatusOr<uint64_t> RankProcess::RestoreTogether(const std::string& selector,
                                                      const RankSave& save, uint32_t together) {
  nlohmann::json command = Describe(save);
  command["do"] = "restore";
  command["selector"] = selector;
  command["together"] = together;
  const absl::StatusOr<nlohmann::json> answer = Ask(command, absl::Minutes(5));
  CKPT_RETURN_IF_ERROR(StatusOf(answer));
  return (*answer)["bytes_read_from_disk"].get<uint64_t>();
}

}  // namespace ckpt::testing
