// Which checkpoints of a run a policy deletes, and why each is kept or deleted: a pure function of
// what is known about the run. The rules themselves are told in retention.proto.
#ifndef CKPT_SERVER_RETENTION_RULES_H_
#define CKPT_SERVER_RETENTION_RULES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "ckpt/v1/checkpoint.pb.h"
#include "ckpt/v1/retention.pb.h"
#include "common/ids.h"

namespace ckpt {

// A committed checkpoint.
struct CheckpointFacts {
  CheckpointUid uid;
  uint64_t step = 0;
  Incarnation incarnation;
  uint64_t bytes = 0;
  absl::Time committed_at;
  bool whole = true;     // its share is the world
  bool damaged = false;  // is known to be: what it holds cannot all be restored
  v1::Labels labels;
};

// What the saves that are under way say about a run.
struct RunActivity {
  std::vector<uint64_t> steps_in_flight;  // being written, or staged and not yet durable
  // The step that the last launch resumed from: all of its ranks had it then.
  std::optional<uint64_t> common_step;
};

struct RunFacts {
  std::vector<CheckpointFacts> checkpoints;  // one for each step, newest first
  RunActivity activity;
  absl::Time now;
};

struct RetentionVerdict {
  bool keep = true;
  std::string rule;    // as RetentionDecision.rule
  std::string reason;  // for people
};

// One for each checkpoint, in their order. A damaged one stands in for no other: where it is kept,
// as the newest or by keep-last or keep-best, the next undamaged one is kept as well.
std::vector<RetentionVerdict> JudgeCheckpoints(const RunFacts& run,
                                               const v1::RetentionPolicy& policy);

}  // namespace ckpt

#endif  // CKPT_SERVER_RETENTION_RULES_H_
