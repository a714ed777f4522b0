#include "server/rpc/leaf_merge.h"

#include <algorithm>
#include <utility>

#include "common/status_macros.h"
#include "server/rpc/checkpoint_info.h"

namespace ckpt {
namespace {

bool Own(const CommittedPart& part) {
  return part.leaf().placement() == v1::PLACEMENT_PER_RANK;
}

// For a heap with the least on top.
bool After(const CommittedPart* a, const CommittedPart* b) {
  const int keys = a->leaf().printed_key().compare(b->leaf().printed_key());
  if (keys != 0) return keys > 0;
  return Own(*a) != Own(*b) ? Own(*a) : a->rank() > b->rank();
}

}  // namespace

absl::StatusOr<LeafMerge> LeafMerge::Open(Index* index, DataFolder* folder,
                                          const CheckpointRecord& record) {
  CKPT_ASSIGN_OR_RETURN(const CheckpointUid uid, UidOf(record));
  std::vector<std::unique_ptr<CommittedPart>> parts;
  for (const v1::PartReference& reference : record.manifest.parts()) {
    CKPT_ASSIGN_OR_RETURN(auto part, CommittedPart::Open(index, folder, uid, reference));
    parts.push_back(std::move(part));
  }
  return LeafMerge(std::move(parts));
}

std::vector<uint32_t> LeafMerge::ranks() const {
  std::vector<uint32_t> ranks;
  for (const auto& part : parts_) ranks.push_back(part->rank());
  std::sort(ranks.begin(), ranks.end());
  return ranks;
}

absl::Status LeafMerge::Seek(absl::string_view key) {
  const std::string to(key);  // it may be a view of a leaf that is left now
  heap_.clear();
  group_.clear();
  for (const auto& part : parts_) {
    CKPT_RETURN_IF_ERROR(part->Seek(to));
    if (part->valid()) heap_.push_back(part.get());
  }
  std::make_heap(heap_.begin(), heap_.end(), After);
  Gather();
  return absl::OkStatus();
}

absl::Status LeafMerge::Next() {
  for (CommittedPart* const part : std::exchange(group_, {})) {
    CKPT_RETURN_IF_ERROR(part->Next());
    if (!part->valid()) continue;
    heap_.push_back(part);
    std::push_heap(heap_.begin(), heap_.end(), After);
  }
  Gather();
  return absl::OkStatus();
}

void LeafMerge::Gather() {
  while (!heap_.empty() &&
         (group_.empty() || (!own() && !Own(*heap_.front()) &&
                             heap_.front()->leaf().printed_key() == printed_key()))) {
    std::pop_heap(heap_.begin(), heap_.end(), After);
    group_.push_back(heap_.back());
    heap_.pop_back();
  }
}

bool LeafMerge::tied() const {
  return std::any_of(group_.begin(), group_.end(),
                     [](const CommittedPart* part) { return part->leaf().tied(); });
}

const CommittedPart* LeafMerge::alias() const {
  const auto found = std::find_if(group_.begin(), group_.end(), [](const CommittedPart* part) {
    return part->leaf().alias_target().has_value();
  });
  return found == group_.end() ? nullptr : *found;
}

bool LeafMerge::DeclaredBy(uint32_t rank) const {
  return std::any_of(group_.begin(), group_.end(),
                     [&](const CommittedPart* part) { return part->rank() == rank; });
}

absl::Status LeafMerge::Describe(v1::PlannedLeaf& planned) {
  CKPT_RETURN_IF_ERROR(cursor().ReadLeaf(*planned.mutable_leaf()));
  planned.mutable_leaf()->clear_alias_of_plus_one();
  planned.set_rank(rank());
  planned.set_position(cursor().position());
  if (planned.leaf().kind() != v1::LEAF_KIND_VALUE) return absl::OkStatus();
  for (CommittedPart* const part : group_) {  // a shared value is stored by one of the ranks
    CKPT_ASSIGN_OR_RETURN(const v1::Value* value, part->FindValue());
    if (value == nullptr) continue;
    *planned.mutable_value() = *value;
    break;
  }
  return absl::OkStatus();
}

absl::StatusOr<uint32_t> LeafMerge::CountShards() {
  size_t count = 0;
  for (const CommittedPart* part : group_) {
    CKPT_RETURN_IF_ERROR(part->leaf().ReadShards(shards_));
    count += shards_.size();
  }
  return static_cast<uint32_t>(count);
}

}  // namespace ckpt
