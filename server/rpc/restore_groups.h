// All ranks of one launch get the same answer to `latest`: the first answer is kept and given to
// the others. Thread-safe.
#ifndef CKPT_SERVER_RPC_RESTORE_GROUPS_H_
#define CKPT_SERVER_RPC_RESTORE_GROUPS_H_

#include <cstdint>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ckpt/v1/restore.pb.h"
#include "common/mutex.h"
#include "server/index/index.h"

namespace ckpt {

// A round is one question that every rank of the launch asks. Its answer holds until the launch
// itself has committed something: only then can a rank that asks again be asking a new question (a
// launch that rolls back to its own last checkpoint), and a new round begins with what is true by
// then. What others commit - checkpoints of earlier launches, adopted late - never changes a
// running round.
class RestoreGroups {
 public:
  explicit RestoreGroups(size_t groups_max = 1024) : groups_max_(groups_max) {}

  // `asker` tells ranks apart (the session); empty: unknown, each call counts as another rank.
  // `owner`: whose rights the call has. Of too many rounds the oldest goes of the owner who has the
  // most, so that whoever has few keeps them. Callers without a token are one owner.
  // `resolve` runs without the lock. `read` gives a checkpoint by its uid. Errors are not kept.
  // INVALID_ARGUMENT: the group's fields. NOT_FOUND: the group's checkpoint was deleted meanwhile.
  absl::StatusOr<CheckpointRecord> Answer(
      const v1::RestoreGroup& group, const v1::Selector& selector, const std::string& owner,
      const std::string& asker, absl::FunctionRef<absl::StatusOr<CheckpointRecord>()> resolve,
      absl::FunctionRef<absl::StatusOr<CheckpointRecord>(CheckpointUid)> read);

 private:
  struct Round {
    std::string owner;
    std::string uid;  // the answer
    uint32_t answered = 0;
    absl::flat_hash_set<std::string> askers;
    absl::Time last_used;
  };
  bool AsksAgain(const Round& round, const std::string& asker, uint32_t world_size) const;
  void MakeRoom() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const size_t groups_max_;
  Mutex mutex_;
  absl::flat_hash_map<std::string, Round> rounds_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_RESTORE_GROUPS_H_
