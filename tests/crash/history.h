// What was done, asked for and seen in one episode of the kill loop, by anybody, and what follows
// from it: which checkpoints must be there, which may be, which must not. Thread-safe. Each event
// is a line of a file as well, for whoever looks into a failure.
#ifndef CKPT_TESTS_CRASH_HISTORY_H_
#define CKPT_TESTS_CRASH_HISTORY_H_

#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/checkpoint_id.h"
#include "common/mutex.h"
#include "tests/crash/schedule.h"
#include "tests/fixtures/test_state.h"

namespace ckpt::testing {

// So many of the newest are kept, by the operator or by retention.
inline constexpr size_t kKept = 3;

// One checkpoint that ranks began to save, and what is known of it.
struct Attempt {
  CheckpointId id;
  StepPlan plan;
  uint32_t ranks = 0;
  bool staged = false;     // all ranks were told so
  bool committed = false;  // somebody was told so, or saw it
  bool delete_asked = false;
  bool gone = false;      // deletion was answered, or it was missing when everything was at rest
  bool replaced = false;  // another attempt at its step was committed after it

  // Whatever happens, it must be there; where it was not deleted or replaced.
  bool promised() const { return staged || committed; }
  uint64_t bytes() const { return plan.part_bytes * ranks; }
  // No two attempts hold the same bytes.
  TestState state() const;
};

class History {
 public:
  // `retention`: the daemon may delete what is not tagged and has kKept newer ones.
  History(const std::string& path, bool retention);
  bool retention() const { return retention_; }

  void Note(absl::string_view text);
  // Of a step that no attempt has had: the next; else the attempt comes later than all at its step.
  void Begin(Attempt attempt);
  uint64_t NextStep() const;
  void Staged(const CheckpointId& id);
  // DATA_LOSS: nobody saved such a checkpoint.
  absl::StatusOr<Attempt> SawCommitted(const CheckpointId& id);
  // Whether somebody may delete it: not what is tagged, or about to be.
  bool AskDelete(const CheckpointId& id);
  // DATA_LOSS: a checkpoint that was seen, and that nobody had asked to delete, is not found.
  absl::Status DeleteAnswered(const CheckpointId& id, bool asked_before,
                              const absl::Status& answer);
  void AskTag(const std::string& tag, const CheckpointId& id);
  void TagAnswered(const std::string& tag, const CheckpointId& id);
  // Right before it. Memory is lost: what was only staged may be, too. Of a process that lived then
  // nobody hears what it saw afterwards.
  void PowerCut();
  uint64_t power_cuts() const;

  // Everything is at rest, and these are there: what must be and is not, or is and must not be, is
  // DATA_LOSS. Afterwards there is no doubt left about any attempt.
  absl::Status AtRest(const std::set<CheckpointId>& there);
  // The same of a tag and its holder.
  absl::Status TagAtRest(const std::string& tag, const std::optional<CheckpointId>& holder);

  uint64_t retired() const;               // by retention
  std::vector<Attempt> attempts() const;  // by step, then incarnation
  std::optional<Attempt> Find(const CheckpointId& id) const;
  std::vector<std::string> tags() const;

 private:
  struct Tag {
    std::optional<CheckpointId> holder;  // answered
    std::vector<CheckpointId> asked;     // after that
  };
  void Write(absl::string_view text) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool Tagged(const CheckpointId& id) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable Mutex mutex_;
  const absl::Time began_;
  const bool retention_;
  std::ofstream file_ ABSL_GUARDED_BY(mutex_);
  uint64_t power_cuts_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t retired_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<CheckpointId, Attempt> attempts_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Tag> tags_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ckpt::testing

#endif  // CKPT_TESTS_CRASH_HISTORY_H_
