#include "server/rpc/leaf_sequence.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "common/status_macros.h"
#include "server/rpc/checkpoint_info.h"
#include "server/rpc/part_manifest.h"

namespace ckpt {
namespace {

// A layout by printed key. Parts with the same layout share one.
struct LayoutOrder {
  std::vector<uint32_t> leaves;
  // The shards of leaf i: shards[first_shard[i]] to shards[first_shard[i + 1]], exclusive.
  std::vector<uint32_t> first_shard;
  std::vector<uint32_t> shards;

  explicit LayoutOrder(const PartLayout& layout)
      : leaves(layout.printed_keys().size()),
        first_shard(leaves.size() + 1),
        shards(layout.shards().size()) {
    std::iota(leaves.begin(), leaves.end(), 0);
    std::sort(leaves.begin(), leaves.end(), [&](uint32_t a, uint32_t b) {
      return layout.printed_keys()[a] < layout.printed_keys()[b];
    });
    for (const v1::Shard& shard : layout.proto().shards()) ++first_shard[shard.leaf() + 1];
    std::partial_sum(first_shard.begin(), first_shard.end(), first_shard.begin());
    std::vector<uint32_t> next(first_shard.begin(), first_shard.end() - 1);
    for (uint32_t s = 0; s < shards.size(); ++s) {
      shards[next[layout.proto().shards(static_cast<int>(s)).leaf()]++] = s;
    }
  }
};

// One part, at one of its leaves.
class PartCursor {
 public:
  PartCursor(CommittedPart part, std::shared_ptr<const LayoutOrder> order)
      : part_(std::move(part)), order_(std::move(order)) {
    for (const v1::Values::Entry& entry : part_.manifest.values().entries()) {
      values_[entry.leaf()] = &entry.value();
    }
  }

  bool done() const { return at_ == order_->leaves.size(); }
  void Advance() { ++at_; }
  uint32_t number() const { return order_->leaves[at_]; }
  const v1::Leaf& leaf() const { return part_.layout->proto().leaves(static_cast<int>(number())); }
  absl::string_view printed_key() const { return part_.layout->printed_keys()[number()]; }
  bool own() const { return leaf().placement() == v1::PLACEMENT_PER_RANK; }
  uint32_t rank() const { return part_.manifest.rank(); }

  // What all parts say alike.
  void Describe(StoredLeaf& out) const {
    out.printed_key = printed_key();
    out.rank = own() ? rank() : 0;
    out.leaf = &leaf();
    out.block_bytes = part_.manifest.block_bytes();
    if (leaf().alias_of_plus_one() == 0) return;
    out.storage = &part_.layout->proto().leaves(static_cast<int>(storage()));
    out.storage_key = part_.layout->printed_keys()[storage()];
  }

  // What this one adds.
  void Contribute(StoredLeaf& out) const {
    const auto value = values_.find(number());
    if (out.value == nullptr && value != values_.end()) out.value = value->second;
    for (uint32_t i = order_->first_shard[storage()]; i < order_->first_shard[storage() + 1]; ++i) {
      const uint32_t s = order_->shards[i];
      const PartLayout::ShardPlace& place = part_.layout->shards()[s];
      const uint64_t blocks = (place.length + out.block_bytes - 1) / out.block_bytes;
      out.shards.push_back(
          {Box::FromProto(part_.layout->proto().shards(static_cast<int>(s)).box()), place.length,
           {part_.manifest.block_hashes().data() + place.first_block, blocks}});
    }
  }

  // Shared ones first: they come once, at the lowest place that their key has.
  friend bool operator<(const PartCursor& a, const PartCursor& b) {
    return std::tuple(a.printed_key(), a.own(), a.rank()) <
           std::tuple(b.printed_key(), b.own(), b.rank());
  }

 private:
  uint32_t storage() const {
    return leaf().alias_of_plus_one() == 0 ? number() : leaf().alias_of_plus_one() - 1;
  }

  CommittedPart part_;
  std::shared_ptr<const LayoutOrder> order_;
  absl::flat_hash_map<uint32_t, const v1::Value*> values_;
  size_t at_ = 0;
};

// All parts side by side, merged through a heap of cursors.
class MergedParts : public LeafSequence {
 public:
  absl::Status Add(CommittedPart part) {
    if (part.manifest.block_bytes() == 0) {
      return absl::DataLossError("a part manifest has blocks of no bytes");
    }
    std::shared_ptr<const LayoutOrder>& order = orders_[part.layout->digest()];
    if (order == nullptr) order = std::make_shared<const LayoutOrder>(*part.layout);
    cursors_.push_back(std::make_unique<PartCursor>(std::move(part), order));
    if (!cursors_.back()->done()) Push(cursors_.back().get());
    return absl::OkStatus();
  }

  absl::StatusOr<const StoredLeaf*> Next() override {
    if (heap_.empty()) return nullptr;
    leaf_ = StoredLeaf();
    const PartCursor& first = *heap_.front();
    first.Describe(leaf_);
    const bool own = first.own();
    do {
      std::pop_heap(heap_.begin(), heap_.end(), After);
      PartCursor* const cursor = heap_.back();
      heap_.pop_back();
      cursor->Contribute(leaf_);
      cursor->Advance();
      if (!cursor->done()) Push(cursor);
    } while (!own && !heap_.empty() && !heap_.front()->own() &&
             heap_.front()->printed_key() == leaf_.printed_key);
    std::sort(leaf_.shards.begin(), leaf_.shards.end(),
              [](const StoredShard& a, const StoredShard& b) { return a.box < b.box; });
    const auto same = [](const StoredShard& a, const StoredShard& b) { return a.box == b.box; };
    leaf_.shards.erase(std::unique(leaf_.shards.begin(), leaf_.shards.end(), same),
                       leaf_.shards.end());
    return &leaf_;
  }

 private:
  static bool After(const PartCursor* a, const PartCursor* b) { return *b < *a; }
  void Push(PartCursor* cursor) {
    heap_.push_back(cursor);
    std::push_heap(heap_.begin(), heap_.end(), After);
  }

  std::vector<std::unique_ptr<PartCursor>> cursors_;
  std::vector<PartCursor*> heap_;  // those that are not done; the least leaf first
  absl::flat_hash_map<std::string, std::shared_ptr<const LayoutOrder>> orders_;
  StoredLeaf leaf_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<LeafSequence>> OpenLeaves(Index* index, DataFolder* folder,
                                                         const CheckpointRecord& record) {
  CKPT_ASSIGN_OR_RETURN(const CheckpointUid uid, UidOf(record));
  auto parts = std::make_unique<MergedParts>();
  for (const v1::PartReference& reference : record.manifest.parts()) {
    CKPT_ASSIGN_OR_RETURN(CommittedPart part, ReadPart(index, folder, uid, reference));
    CKPT_RETURN_IF_ERROR(parts->Add(std::move(part)));
  }
  return parts;
}

}  // namespace ckpt
