// DiffCheckpoints: two checkpoints side by side, leaf by leaf in the order of their keys. What
// differs is told from manifests and the hashes of blocks; no tensor is read.
#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "common/filter.h"
#include "common/status_macros.h"
#include "server/rpc/catalog.h"
#include "server/rpc/leaf_merge.h"
#include "server/rpc/leaf_selection.h"
#include "server/rpc/leaf_sequence.h"

namespace ckpt {
namespace {

constexpr size_t kBatchBytesMax = 1 << 20;
constexpr uint64_t kLeavesPerLook = 1024;  // between looks at whether the caller is still there

LeafFacts FactsOf(const StoredLeaf& leaf) {
  return ckpt::FactsOf(*leaf.leaf, leaf.printed_key, leaf.rank);
}

bool SameDeclaration(const v1::Leaf& a, const v1::Leaf& b) {
  return a.kind() == b.kind() && a.dtype() == b.dtype() && a.placement() == b.placement() &&
         std::equal(a.shape().begin(), a.shape().end(), b.shape().begin(), b.shape().end());
}

bool SameValue(const StoredLeaf& a, const StoredLeaf& b) {
  if (a.value == nullptr || b.value == nullptr) return a.value == b.value;
  return a.value->SerializeAsString() == b.value->SerializeAsString();
}

bool CutAlike(const StoredLeaf& a, const StoredLeaf& b) {
  return a.block_bytes == b.block_bytes &&
         std::equal(a.shards.begin(), a.shards.end(), b.shards.begin(), b.shards.end(),
                    [](const StoredShard& x, const StoredShard& y) { return x.box == y.box; });
}

// Bytes in blocks whose hashes differ. Both are cut alike.
uint64_t ChangedBytes(const StoredLeaf& before, const StoredLeaf& after) {
  uint64_t changed = 0;
  for (size_t s = 0; s < after.shards.size(); ++s) {
    const StoredShard& shard = after.shards[s];
    for (size_t block = 0; block < shard.block_hashes.size(); ++block) {
      if (shard.block_hashes[block] == before.shards[s].block_hashes[block]) continue;
      changed += std::min(after.block_bytes, shard.length - block * after.block_bytes);
    }
  }
  return changed;
}

// (printed key, rank): what pairs leaves of two checkpoints.
int Order(const StoredLeaf& a, const StoredLeaf& b) {
  const int keys = a.printed_key.compare(b.printed_key);
  if (keys != 0 || a.rank == b.rank) return keys;
  return a.rank < b.rank ? -1 : 1;
}

// One call of DiffCheckpoints.
class Comparison {
 public:
  Comparison(Catalog& catalog, const v1::DiffCheckpointsRequest& request, Cancelled cancelled,
             SendTo<v1::DiffCheckpointsResponse> send)
      : catalog_(catalog), request_(request), cancelled_(cancelled), send_(send) {}

  absl::Status Run() {
    if (request_.selection().slices_size() > 0) {
      return absl::InvalidArgumentError("a diff compares whole tensors: slices are not allowed");
    }
    CKPT_ASSIGN_OR_RETURN(const LeafSelection selection,
                          LeafSelection::Create(request_.selection()));
    filter_ = selection.filter();
    CKPT_ASSIGN_OR_RETURN(const CheckpointRecord old_record, Find(request_.before()));
    CKPT_ASSIGN_OR_RETURN(const CheckpointRecord new_record, Find(request_.after()));
    *summary_.mutable_before() = old_record.manifest.id();
    *summary_.mutable_after() = new_record.manifest.id();
    if (!filter_.named_keys().empty() || !filter_.included_ranks().empty()) {
      CKPT_ASSIGN_OR_RETURN(LeafMerge old_leaves, Merged(old_record));
      CKPT_ASSIGN_OR_RETURN(LeafMerge new_leaves, Merged(new_record));
      CKPT_RETURN_IF_ERROR(selection.CheckNamed({&old_leaves, &new_leaves}));
    }
    CKPT_ASSIGN_OR_RETURN(const auto before, Open(old_record, selection));
    CKPT_ASSIGN_OR_RETURN(const auto after, Open(new_record, selection));
    CKPT_RETURN_IF_ERROR(Merge(*before, *after));
    if (!Flush()) return CallerHasGone();
    v1::DiffCheckpointsResponse last;
    *last.mutable_summary() = summary_;
    return send_(last) ? absl::OkStatus() : CallerHasGone();
  }

 private:
  absl::StatusOr<CheckpointRecord> Find(const v1::Selector& selector) {
    return catalog_.finder->Find(selector, *catalog_.rights, cancelled_);
  }
  absl::StatusOr<LeafMerge> Merged(const CheckpointRecord& record) {
    return LeafMerge::Open(catalog_.index, catalog_.folder, record);
  }
  absl::StatusOr<std::unique_ptr<LeafSequence>> Open(const CheckpointRecord& record,
                                                     const LeafSelection& selection) {
    return OpenLeaves(catalog_.index, catalog_.folder, record, selection);
  }

  absl::Status Merge(LeafSequence& before, LeafSequence& after) {
    CKPT_ASSIGN_OR_RETURN(const StoredLeaf* old_leaf, before.Next());
    CKPT_ASSIGN_OR_RETURN(const StoredLeaf* new_leaf, after.Next());
    for (uint64_t leaves = 1; old_leaf != nullptr || new_leaf != nullptr; ++leaves) {
      if (leaves % kLeavesPerLook == 0 && cancelled_()) return CallerHasGone();
      const int order = old_leaf == nullptr   ? 1
                        : new_leaf == nullptr ? -1
                                              : Order(*old_leaf, *new_leaf);
      const bool sent = Compare(order <= 0 ? old_leaf : nullptr, order >= 0 ? new_leaf : nullptr);
      if (!sent) return CallerHasGone();
      if (order <= 0) {
        CKPT_ASSIGN_OR_RETURN(old_leaf, before.Next());
      }
      if (order >= 0) {
        CKPT_ASSIGN_OR_RETURN(new_leaf, after.Next());
      }
    }
    return absl::OkStatus();
  }

  bool Selected(const StoredLeaf* leaf) const {
    return leaf != nullptr && filter_.Matches(FactsOf(*leaf));
  }

  // The same place in both; null where one has nothing there. False once the caller has gone.
  bool Compare(const StoredLeaf* before, const StoredLeaf* after) {
    if (!Selected(before) && !Selected(after)) return true;
    const StoredLeaf& shown = after != nullptr ? *after : *before;
    v1::LeafDifference difference;
    difference.set_data_bytes(FactsOf(shown).bytes.value_or(0));
    difference.set_kind(KindOf(before, after, difference));
    if (after != nullptr && !CountedElsewhere(*after)) {
      summary_.set_data_bytes(summary_.data_bytes() + difference.data_bytes());
      if (difference.kind() == v1::LeafDifference::KIND_UNKNOWN) {
        summary_.set_unknown_bytes(summary_.unknown_bytes() + difference.data_bytes());
      }
      const bool comparable = difference.kind() == v1::LeafDifference::KIND_UNSPECIFIED ||
                              difference.kind() == v1::LeafDifference::KIND_CHANGED;
      summary_.set_identical_bytes(
          summary_.identical_bytes() +
          (comparable ? difference.data_bytes() - difference.changed_bytes() : 0));
    }
    if (difference.kind() == v1::LeafDifference::KIND_UNSPECIFIED) return true;
    difference.set_rank(shown.rank);
    if (before != nullptr) Show(*before, difference.mutable_before());
    if (after != nullptr) Show(*after, difference.mutable_after());
    if (before != nullptr && before->value) *difference.mutable_before_value() = *before->value;
    if (after != nullptr && after->value) *difference.mutable_after_value() = *after->value;
    batch_bytes_ += difference.ByteSizeLong() + 8;
    *batch_.mutable_differences()->add_differences() = std::move(difference);
    return batch_bytes_ < kBatchBytesMax || Flush();
  }

  // KIND_UNSPECIFIED: they are identical. Counts it, and notes how many bytes have changed.
  v1::LeafDifference::Kind KindOf(const StoredLeaf* before, const StoredLeaf* after,
                                  v1::LeafDifference& difference) {
    if (before == nullptr) {
      summary_.set_added(summary_.added() + 1);
      return v1::LeafDifference::KIND_ADDED;
    }
    if (after == nullptr) {
      summary_.set_removed(summary_.removed() + 1);
      return v1::LeafDifference::KIND_REMOVED;
    }
    if (!SameDeclaration(*before->leaf, *after->leaf)) {
      summary_.set_reshaped(summary_.reshaped() + 1);
      return v1::LeafDifference::KIND_RESHAPED;
    }
    if (!CutAlike(*before, *after)) {
      summary_.set_unknown(summary_.unknown() + 1);
      return v1::LeafDifference::KIND_UNKNOWN;
    }
    difference.set_changed_bytes(ChangedBytes(*before, *after));
    if (difference.changed_bytes() > 0 || !SameValue(*before, *after)) {
      summary_.set_changed(summary_.changed() + 1);
      return v1::LeafDifference::KIND_CHANGED;
    }
    summary_.set_identical(summary_.identical() + 1);
    return v1::LeafDifference::KIND_UNSPECIFIED;
  }

  // Storage that several selected tensors share counts once, with the one that holds it.
  bool CountedElsewhere(const StoredLeaf& leaf) const {
    return leaf.storage != nullptr &&
           filter_.Matches(ckpt::FactsOf(*leaf.storage, leaf.storage_key, leaf.rank));
  }

  static void Show(const StoredLeaf& leaf, v1::Leaf* shown) {
    *shown = *leaf.leaf;
    shown->clear_alias_of_plus_one();  // a number in a layout that the caller doesn't see
  }

  bool Flush() {
    if (batch_bytes_ == 0) return true;
    const bool sent = !cancelled_() && send_(batch_);
    batch_.Clear();
    batch_bytes_ = 0;
    return sent;
  }

  Catalog& catalog_;
  const v1::DiffCheckpointsRequest& request_;
  const Cancelled cancelled_;
  const SendTo<v1::DiffCheckpointsResponse> send_;
  LeafFilter filter_;
  v1::DiffSummary summary_;
  v1::DiffCheckpointsResponse batch_;
  size_t batch_bytes_ = 0;
};

}  // namespace

absl::Status DiffCheckpoints(Catalog& catalog, const v1::DiffCheckpointsRequest& request,
                             Cancelled cancelled, SendTo<v1::DiffCheckpointsResponse> send) {
  return Comparison(catalog, request, cancelled, send).Run();
}

}  // namespace ckpt
