// What of a part's plan is the same at every save: the layout and where each shard's bytes begin.
// The cache recognises a part of the same structure by comparing it leaf by leaf, which allocates
// nothing and is far cheaper than making, serializing and hashing the layout again.
#ifndef CKPT_CLIENT_STATE_PLAN_CACHE_H_
#define CKPT_CLIENT_STATE_PLAN_CACHE_H_

#include <list>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/state/part.h"
#include "common/mutex.h"

namespace ckpt {

struct PartStructure {
  std::shared_ptr<const PartLayout> layout;
  std::vector<PartPlan::ShardSource> sources;  // by shard of the layout
};

// The steps of MakePartPlan. INVALID_ARGUMENT names the leaf.
absl::StatusOr<PartStructure> MakePartStructure(const Part& part);
absl::Status CheckSources(const Part& part, const PartStructure& structure);
absl::StatusOr<v1::Values> CollectValues(const Part& part, const PartLayout& layout);

// Thread-safe.
class PlanCache {
 public:
  // From the cache, or made and kept in it. INVALID_ARGUMENT as MakePartStructure.
  absl::StatusOr<std::shared_ptr<const PartStructure>> Get(const Part& part);

 private:
  // A part without its values, bytes and callbacks. Its leaves' keys, kinds, placements, dtypes,
  // shapes and aliases are those of the layout.
  struct Held {
    Box box;
    uint32_t replica_index = 0;
    uint32_t replica_count = 1;
  };
  struct Entry {
    uint32_t rank = 0;
    uint32_t world_size = 1;
    std::vector<uint32_t> share;
    std::vector<Held> held;  // by leaf
    std::shared_ptr<const PartStructure> structure;
  };
  static Entry EntryOf(const Part& part, std::shared_ptr<const PartStructure> structure);
  static bool Matches(const Entry& entry, const Part& part);

  Mutex mutex_;
  std::list<std::shared_ptr<const Entry>> entries_ ABSL_GUARDED_BY(mutex_);  // newest first
};

}  // namespace ckpt

#endif  // CKPT_CLIENT_STATE_PLAN_CACHE_H_
