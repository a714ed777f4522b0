#include "client/state/plan_cache.h"

#include <algorithm>
#include <utility>

#include "common/status_macros.h"

namespace ckpt {
namespace {

constexpr size_t kEntriesMax = 4;

bool SameLeaf(const LeafTable& leaves, size_t i, const PartLeaf& leaf) {
  const LeafView view = leaves[i];
  return view.kind == leaf.kind && view.placement == leaf.placement && view.dtype == leaf.dtype &&
         view.alias_of_plus_one == leaf.alias_of_plus_one &&
         view.shape == absl::MakeConstSpan(leaf.shape) &&
         leaves.serialized_key(i) == leaf.key.serialized();
}

}  // namespace

bool PlanCache::Matches(const Entry& entry, const Part& part) {
  if (entry.rank != part.rank || entry.world_size != part.world_size ||
      entry.share != part.share || entry.held.size() != part.leaves.size()) {
    return false;
  }
  const LeafTable& leaves = entry.structure->layout->leaves();
  for (size_t i = 0; i < part.leaves.size(); ++i) {
    const PartLeaf& leaf = part.leaves[i];
    const Held& held = entry.held[i];
    if (held.replica_index != leaf.replica_index || held.replica_count != leaf.replica_count ||
        held.box != leaf.box || !SameLeaf(leaves, i, leaf)) {
      return false;
    }
  }
  return true;
}

PlanCache::Entry PlanCache::EntryOf(const Part& part,
                                    std::shared_ptr<const PartStructure> structure) {
  Entry entry;
  entry.rank = part.rank;
  entry.world_size = part.world_size;
  entry.share = part.share;
  entry.held.reserve(part.leaves.size());
  for (const PartLeaf& leaf : part.leaves) {
    entry.held.push_back({leaf.box, leaf.replica_index, leaf.replica_count});
  }
  entry.structure = std::move(structure);
  return entry;
}

absl::StatusOr<std::shared_ptr<const PartStructure>> PlanCache::Get(const Part& part) {
  std::list<std::shared_ptr<const Entry>> known;
  {
    MutexLock lock(mutex_);
    known = entries_;
  }
  for (const std::shared_ptr<const Entry>& entry : known) {
    if (Matches(*entry, part)) return entry->structure;
  }
  CKPT_ASSIGN_OR_RETURN(PartStructure made, MakePartStructure(part));
  auto structure = std::make_shared<const PartStructure>(std::move(made));
  auto entry = std::make_shared<const Entry>(EntryOf(part, structure));
  MutexLock lock(mutex_);
  entries_.push_front(std::move(entry));
  if (entries_.size() > kEntriesMax) entries_.pop_back();
  return structure;
}

}  // namespace ckpt
