// Which committed checkpoint a selector means, and what to say when there is none.
// Thread-safe.
#ifndef CKPT_SERVER_RPC_CHECKPOINT_FINDER_H_
#define CKPT_SERVER_RPC_CHECKPOINT_FINDER_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ckpt/v1/restore.pb.h"
#include "common/ids.h"
#include "common/mutex.h"
#include "server/access/rights.h"
#include "server/index/index.h"
#include "server/persist/known_damage.h"
#include "server/staging/memory_copies.h"
#include "server/storage/data_folder.h"

namespace ckpt {

// INVALID_ARGUMENT: run, step, tag or incarnation is none, or the selector does not say which.
absl::Status ValidateSelector(const v1::Selector& selector);

class CheckpointFinder {
 public:
  CheckpointFinder(Index* index, DataFolder* folder, const MemoryCopies* memory)
      : index_(index), folder_(folder), memory_(memory), damage_(index) {}

  // Does not wait for anything to commit. `latest` and `latest_valid` pass over shares that are
  // smaller than their world, and over what is known to be damaged on disk; `latest` does not where
  // memory still has all of it, for that is restored from there. `latest_valid` reads the newest
  // checkpoint from disk, every block, and goes on to the next older one where it finds damage.
  // INVALID_ARGUMENT; NOT_FOUND with what exists, of what `rights` may read; FAILED_PRECONDITION:
  // the run has such shares and nothing else; DATA_LOSS: all that may be chosen is damaged;
  // CANCELLED. Whether the caller may read this run at all was asked before (gate.h).
  absl::StatusOr<CheckpointRecord> Find(const v1::Selector& selector, const Rights& rights,
                                        absl::FunctionRef<bool()> cancelled);
  // The same in two steps, for calls that change what they find under a lock that others wait for.
  // Ahead of it, what may take long: `latest_valid` is found, the rest is left for later.
  absl::StatusOr<std::optional<CheckpointRecord>> FindAhead(const v1::Selector& selector,
                                                            const Rights& rights,
                                                            absl::FunctionRef<bool()> cancelled);
  // Under it: `ahead` as it is now, or what the selector means. Also NOT_FOUND: deleted in between.
  absl::StatusOr<CheckpointRecord> FindNow(const v1::Selector& selector, const Rights& rights,
                                           const std::optional<CheckpointRecord>& ahead);

  // The checkpoint that the first page of a list was of, whatever `latest` means by now. NOT_FOUND:
  // it was deleted between two pages, or is of another run than `run`: nobody got such a token from
  // the daemon, whatever the token's check says.
  absl::StatusOr<CheckpointRecord> FindForNextPage(const std::string& run, CheckpointUid uid);

  // What whole reads have found. What is known to be damaged is passed over.
  KnownDamage& damage() { return damage_; }

  // NOT_FOUND, naming the runs nearest to this one, of those that `rights` may read. Says the same
  // whether the run is not there or may not be read.
  absl::Status RunNotFound(const std::string& run, const Rights& rights);
  bool RunIsIndexed(const std::string& run);

 private:
  enum class Found { kValid, kDamaged, kGone };
  using Judge = absl::FunctionRef<absl::StatusOr<Found>(CheckpointUid, const CheckpointRecord&)>;
  // The newest one that is valid, says `judge`.
  absl::StatusOr<CheckpointRecord> FindNewest(const std::string& run, const Rights& rights,
                                              Judge judge);
  // What is known of it, or what a read of it finds, by this caller or by one that is at it.
  absl::StatusOr<Found> Validate(CheckpointUid uid, const CheckpointRecord& record,
                                 absl::FunctionRef<bool()> cancelled);
  absl::StatusOr<Found> Read(CheckpointUid uid, const CheckpointRecord& record,
                             absl::FunctionRef<bool()> cancelled);
  absl::Status StepNotFound(const v1::Selector& selector, const Rights& rights);
  absl::Status TagNotFound(const v1::Selector& selector, const Rights& rights);
  absl::Status LatestNotFound(const std::string& run, const Rights& rights);

  Index* const index_;
  DataFolder* const folder_;
  const MemoryCopies* const memory_;
  KnownDamage damage_;
  // The ranks of a launch ask at the same moment: one reads a checkpoint, the others wait for what
  // it finds. Not held meanwhile.
  Mutex verifying_;
  CondVar read_;
  absl::flat_hash_set<CheckpointUid> being_read_ ABSL_GUARDED_BY(verifying_);
  absl::flat_hash_map<CheckpointUid, absl::Time> verified_ ABSL_GUARDED_BY(verifying_);
};

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_CHECKPOINT_FINDER_H_
