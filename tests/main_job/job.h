// The example trainer as a child process, and what it has written about itself.
#ifndef CKPT_TESTS_MAIN_JOB_JOB_H_
#define CKPT_TESTS_MAIN_JOB_JOB_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace ckpt::testing {

struct JobOptions {
  std::string socket;
  std::string run;
  std::string folder;  // of its output; must exist
  std::vector<std::string> flags;
  int ranks = 4;
};

// Launches may follow one another: the output goes on where the last one stopped. Not thread-safe.
class Job {
 public:
  explicit Job(JobOptions options) : options_(std::move(options)) {}

  absl::Status Launch(const std::vector<std::string>& more_flags = {});
  // SIGKILL to every rank; returns when they and the launcher are gone.
  void KillRanks();
  // INTERNAL, with the end of its log, unless it ends with status 0.
  absl::Status AwaitSuccess(absl::Duration timeout);
  bool running();

  // Losses written so far, those of earlier launches too.
  size_t losses_written() const;
  // By step, as written. INTERNAL where a step that was computed twice has two different losses.
  absl::Status ReadLosses(std::map<int64_t, std::string>& losses) const;
  // Lines "parameters HEX", "rank 0 optimizer HEX reader HEX" by step; the last written ones.
  std::map<int64_t, std::set<std::string>> ReadDigests() const;
  // Steps of the events with this name.
  std::vector<int64_t> EventSteps(const std::string& event) const;
  std::string LogTail() const;

 private:
  std::vector<pid_t> RankPids() const;

  const JobOptions options_;
  pid_t launcher_ = 0;
};

}  // namespace ckpt::testing

#endif  // CKPT_TESTS_MAIN_JOB_JOB_H_
