// Deletes what the policies say, in a thread of its own: of a run after each of its commits, aborts
// and changed labels; of all runs once at start, now and then (ages pass, errors are tried again)
// and when a disk is full. Nothing is deleted while the index awaits confirmation. Each deletion is
// logged with its reason. Thread-safe.
//
// A deletion is decided and carried out under `changing`, the lock that labels change under: a pin
// that was answered is seen. Never more than a few at once, so that a tag does not wait for long.
#ifndef CKPT_SERVER_RETENTION_RETENTION_H_
#define CKPT_SERVER_RETENTION_RETENTION_H_

#include <atomic>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ckpt/v1/retention.pb.h"
#include "common/mutex.h"
#include "server/index/index.h"
#include "server/persist/persister.h"
#include "server/persist/reservation.h"
#include "server/retention/policies.h"
#include "server/retention/rules.h"
#include "server/storage/data_folder.h"

namespace ckpt {

struct RetentionOptions {
  DataFolder* folder = nullptr;
  Index* index = nullptr;
  Persister* persister = nullptr;
  RetentionPolicies::Settings settings;
  absl::Duration look_again = absl::Minutes(1);
  std::function<absl::Time()> now = absl::Now;
};

// What a policy would do to a run now.
struct RetentionPlan {
  HoldingPolicy holding;
  bool awaits_confirmation = false;
  std::vector<CheckpointFacts> checkpoints;  // newest first
  std::vector<RetentionVerdict> verdicts;    // of each
};

class Retention {
 public:
  // What the rooms above do for it. All are called from its thread, `activity` and `damaged` also
  // from whoever asks for a plan; never with its own lock held.
  struct Surroundings {
    std::function<RunActivity(const std::string& run)> activity;
    // The checkpoint is gone: memory copies and watchers are theirs. With `changing` held.
    std::function<void(const CheckpointRecord& record)> deleted;
    // Whether somebody has found it damaged (persist/known_damage.h). Null: nobody has.
    std::function<bool(CheckpointUid uid)> damaged;
  };

  explicit Retention(RetentionOptions options);
  ~Retention();  // as Stop

  // Looks at all runs, then at what changes. Once.
  void Start(Surroundings surroundings);
  // Ends the thread and all waiting; from then on nothing is deleted. Idempotent.
  void Stop();

  // Look at this run soon.
  void RunChanged(const std::string& run);

  // Looks at all runs and waits for that: the disk is full.
  DiskRoom MakeRoom();

  // A dry run. `policy` instead of the run's own. The run may be unknown: an empty plan.
  // INVALID_ARGUMENT, DATA_LOSS.
  absl::StatusOr<RetentionPlan> Plan(const std::string& run,
                                     const std::optional<v1::RetentionPolicy>& policy) const;
  absl::StatusOr<HoldingPolicy> PolicyOf(const std::string& run) const { return policies_.Of(run); }
  HoldingPolicy InheritedPolicyOf(const std::string& run) const { return policies_.Inherited(run); }
  // As RetentionPolicies::Set; in force when it returns.
  absl::Status SetPolicy(const std::string& run, const std::optional<v1::RetentionPolicy>& policy);

  // DATA_LOSS: the file of policies is damaged; says what to do.
  absl::Status policies_status() const { return policies_.status(); }

  // Nothing is deleted: the index was made anew, or the file of policies has gone.
  absl::StatusOr<bool> AwaitsConfirmation() const;
  // True where that was awaited.
  absl::StatusOr<bool> Confirm();

  // Held while labels are read, changed and written, and while a checkpoint is deleted. Taken
  // before every other lock.
  Mutex& changing() const ABSL_LOCK_RETURNED(changing_) { return changing_; }

 private:
  void Run();
  // True where something was deleted.
  bool LookAt(const std::set<std::string>& runs);
  std::set<std::string> AllRuns();
  absl::StatusOr<uint64_t> Trim(const std::string& run);
  // By its label file, which is the truth: a damaged one, or an index that is behind it, costs no
  // checkpoint.
  bool MayGo(const CheckpointFacts& facts, const std::string& run);
  absl::Status Delete(const CheckpointFacts& facts, const std::string& run,
                      const RetentionVerdict& verdict) ABSL_EXCLUSIVE_LOCKS_REQUIRED(changing_);
  absl::StatusOr<RunFacts> Gather(const std::string& run) const;
  // A file of policies that is not there any more was lost: the flags' do not hold in its place.
  absl::Status CheckPolicies();
  bool stopped();

  const RetentionOptions options_;
  RetentionPolicies policies_;
  std::atomic<bool> policies_lost_{false};  // as the index knows, unless it could not be told
  Surroundings surroundings_;  // set before the thread starts
  std::thread thread_;
  mutable Mutex changing_;
  Mutex mutex_;
  CondVar wake_;
  CondVar looked_;
  std::set<std::string> changed_ ABSL_GUARDED_BY(mutex_);
  bool all_ ABSL_GUARDED_BY(mutex_) = true;    // look at all runs
  uint64_t asked_ ABSL_GUARDED_BY(mutex_) = 0; // looks at all runs that somebody waits for
  uint64_t done_ ABSL_GUARDED_BY(mutex_) = 0;  // of them
  uint64_t made_at_ ABSL_GUARDED_BY(mutex_) = 0;  // the last of them that deleted something
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_RETENTION_RETENTION_H_
