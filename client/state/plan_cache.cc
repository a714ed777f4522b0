#include "client/state/plan_cache.h"

#include <algorithm>
#include <utility>

#include "common/status_macros.h"

namespace ckpt {
namespace {

constexpr size_t kEntriesMax = 4;

bool SameKey(const v1::Key& a, const v1::Key& b) {
  if (a.segments_size() != b.segments_size()) return false;
  for (int i = 0; i < a.segments_size(); ++i) {
    const v1::KeySegment& x = a.segments(i);
    const v1::KeySegment& y = b.segments(i);
    if (x.kind_case() != y.kind_case() || x.name() != y.name() || x.number() != y.number() ||
        x.index() != y.index()) {
      return false;
    }
  }
  return true;
}

bool SameLeaf(const PartLeaf& a, const PartLeaf& b) {
  const v1::Leaf& x = a.leaf;
  const v1::Leaf& y = b.leaf;
  return x.kind() == y.kind() && x.placement() == y.placement() && x.dtype() == y.dtype() &&
         x.alias_of_plus_one() == y.alias_of_plus_one() &&
         std::equal(x.shape().begin(), x.shape().end(), y.shape().begin(), y.shape().end()) &&
         a.replica_index == b.replica_index && a.replica_count == b.replica_count &&
         a.box == b.box && SameKey(x.key(), y.key());
}

Part ShapeOf(const Part& part) {
  Part shape;
  shape.rank = part.rank;
  shape.world_size = part.world_size;
  shape.share = part.share;
  shape.leaves.reserve(part.leaves.size());
  for (const PartLeaf& leaf : part.leaves) {
    PartLeaf& kept = shape.leaves.emplace_back();
    kept.leaf = leaf.leaf;
    kept.box = leaf.box;
    kept.replica_index = leaf.replica_index;
    kept.replica_count = leaf.replica_count;
  }
  return shape;
}

}  // namespace

bool SameStructure(const Part& a, const Part& b) {
  return a.rank == b.rank && a.world_size == b.world_size && a.share == b.share &&
         std::equal(a.leaves.begin(), a.leaves.end(), b.leaves.begin(), b.leaves.end(), SameLeaf);
}

absl::StatusOr<std::shared_ptr<const PartStructure>> PlanCache::Get(const Part& part) {
  std::list<std::shared_ptr<const Entry>> known;
  {
    MutexLock lock(mutex_);
    known = entries_;
  }
  for (const std::shared_ptr<const Entry>& entry : known) {
    if (SameStructure(entry->shape, part)) return entry->structure;
  }
  CKPT_ASSIGN_OR_RETURN(PartStructure made, MakePartStructure(part));
  auto structure = std::make_shared<const PartStructure>(std::move(made));
  auto entry = std::make_shared<const Entry>(Entry{ShapeOf(part), structure});
  MutexLock lock(mutex_);
  entries_.push_front(std::move(entry));
  if (entries_.size() > kEntriesMax) entries_.pop_back();
  return structure;
}

}  // namespace ckpt
