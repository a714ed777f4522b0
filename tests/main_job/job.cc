#include "tests/main_job/job.h"

#include <signal.h>

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "nlohmann/json.hpp"
#include "tests/fixtures/daemon.h"
#include "tests/fixtures/process.h"

namespace ckpt::testing {
namespace {

// Whole lines only: the last one may be growing.
std::vector<std::string> Lines(const std::string& path) {
  std::vector<std::string> lines = absl::StrSplit(ReadWholeFile(path), '\n');
  lines.pop_back();
  return lines;
}

std::vector<nlohmann::json> Events(const std::string& folder) {
  std::vector<nlohmann::json> events;
  for (const std::string& line : Lines(folder + "/events.jsonl")) {
    nlohmann::json event = nlohmann::json::parse(line, nullptr, false);
    if (!event.is_discarded()) events.push_back(std::move(event));
  }
  return events;
}

}  // namespace

absl::Status Job::Launch(const std::vector<std::string>& more_flags) {
  SpawnOptions spawn;
  spawn.arguments = {BuiltBinary("train_lm"),
                     "launch",
                     absl::StrCat("--ranks=", options_.ranks),
                     absl::StrCat("--run=", options_.run),
                     absl::StrCat("--socket=", options_.socket),
                     absl::StrCat("--out=", options_.folder)};
  for (const auto& flags : {options_.flags, more_flags}) {
    spawn.arguments.insert(spawn.arguments.end(), flags.begin(), flags.end());
  }
  spawn.output = options_.folder + "/log";
  spawn.errors = spawn.output;
  auto pid = Spawn(spawn);
  if (pid.ok()) launcher_ = *pid;
  return pid.status();
}

std::vector<pid_t> Job::RankPids() const {
  std::vector<pid_t> pids;
  for (const nlohmann::json& event : Events(options_.folder)) {
    if (event["event"] == "started") pids.push_back(event["pid"].get<pid_t>());
  }
  const size_t earlier = pids.size() - std::min(pids.size(), static_cast<size_t>(options_.ranks));
  pids.erase(pids.begin(), pids.begin() + earlier);
  return pids;
}

void Job::KillRanks() {
  for (const pid_t pid : RankPids()) ::kill(pid, SIGKILL);
  (void)AwaitProcess(launcher_, absl::InfiniteDuration());
  launcher_ = 0;
}

bool Job::running() {
  if (launcher_ == 0) return false;
  if (absl::IsDeadlineExceeded(AwaitProcess(launcher_, absl::ZeroDuration()).status())) return true;
  launcher_ = 0;
  return false;
}

absl::Status Job::AwaitSuccess(absl::Duration timeout) {
  const auto status = AwaitProcess(launcher_, timeout);
  if (!status.ok()) return absl::InternalError(absl::StrCat(status.status().ToString(), LogTail()));
  launcher_ = 0;
  if (*status == 0) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("train_lm ended with ", *status, LogTail()));
}

size_t Job::losses_written() const { return Lines(options_.folder + "/losses.txt").size(); }

absl::Status Job::ReadLosses(std::map<int64_t, std::string>& losses) const {
  for (const std::string& line : Lines(options_.folder + "/losses.txt")) {
    const std::pair<std::string, std::string> parts = absl::StrSplit(line, absl::MaxSplits(' ', 1));
    int64_t step = 0;
    if (!absl::SimpleAtoi(parts.first, &step)) return absl::InternalError("torn line: " + line);
    const auto [at, inserted] = losses.emplace(step, parts.second);
    if (!inserted && at->second != parts.second) {
      return absl::InternalError(absl::StrCat("step ", step, " was computed twice, with losses ",
                                              at->second, " and ", parts.second));
    }
  }
  return absl::OkStatus();
}

std::map<int64_t, std::set<std::string>> Job::ReadDigests() const {
  std::map<int64_t, std::set<std::string>> digests;
  for (const std::string& line : Lines(options_.folder + "/digests.txt")) {
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(' ', 2));
    int64_t step = 0;
    if (parts.size() == 3 && absl::SimpleAtoi(parts[1], &step)) digests[step].insert(parts[2]);
  }
  return digests;
}

std::vector<int64_t> Job::EventSteps(const std::string& event) const {
  std::vector<int64_t> steps;
  for (const nlohmann::json& one : Events(options_.folder)) {
    if (one["event"] == event) steps.push_back(one["step"].get<int64_t>());
  }
  return steps;
}

std::string Job::LogTail() const {
  const std::string log = ReadWholeFile(options_.folder + "/log");
  return absl::StrCat("\n", log.substr(log.size() - std::min<size_t>(log.size(), 4000)));
}

}  // namespace ckpt::testing
