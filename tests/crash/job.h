// The training job of the kill loop: rank processes that save step after step. Its processes
// outlive the daemon, as trainers do; a rank that is killed is started again at the next launch.
#ifndef CKPT_TESTS_CRASH_JOB_H_
#define CKPT_TESTS_CRASH_JOB_H_

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/mutex.h"
#include "tests/crash/history.h"
#include "tests/crash/schedule.h"
#include "tests/integration/rank_process.h"

namespace ckpt::testing {

inline constexpr char kRun[] = "team/killed";

// Calls come from one thread, which must live as long as the job, where nothing else is said.
class Job {
 public:
  Job(std::string socket, const Schedule* schedule, History* history);

  // A new incarnation. `newest` is what is committed; where the plan says so, each rank restores it
  // first.
  absl::Status Launch(const RunPlan& run, const std::optional<Attempt>& newest);
  // Saves until `stop`, or until something fails, which is an error unless `struck` by then.
  absl::Status Save(const std::atomic<bool>& stop, const std::atomic<bool>& struck);
  // After the kill, a daemon being there: the checkpoint that was under way comes to an end, one
  // way or the other. `daemon_died`: with ranks that live and ranks that don't, those that still
  // try are told to give up.
  absl::Status Settle(bool daemon_died);

  // Any thread.
  void Kill(uint32_t rank);
  void KillAll();
  uint32_t steps_staged() const { return steps_staged_; }  // of this launch

  uint64_t restores() const { return restores_; }

 private:
  enum class Reached { kPending, kAll, kFailed };
  absl::Status Begin(const Attempt& attempt, bool replace);
  // One look at all ranks. `committed`: of that, or else of staged.
  Reached Look(bool committed);
  // Until all ranks have reached it; OK, too, where `stop` is set before. What a rank failed with;
  // DEADLINE_EXCEEDED: it hangs.
  absl::Status Await(bool committed, const std::atomic<bool>* stop);
  absl::Status SaveOnce();
  bool Lives(uint32_t rank);
  RankSave SaveOf(const Attempt& attempt, uint32_t rank) const;

  const std::string socket_;
  const Schedule& schedule_;
  History& history_;
  RunPlan run_;
  Incarnation launch_;
  std::optional<Attempt> newest_;
  std::optional<Attempt> current_;  // begun, and not known to have ended
  absl::Status failure_;            // the last one that Look met
  std::atomic<uint32_t> steps_staged_{0};
  uint64_t restores_ = 0;

  std::vector<std::unique_ptr<RankProcess>> ranks_;
  Mutex mutex_;
  std::vector<pid_t> pids_ ABSL_GUARDED_BY(mutex_);  // 0: killed
};

}  // namespace ckpt::testing

#endif  // CKPT_TESTS_CRASH_JOB_H_
