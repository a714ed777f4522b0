#include "server/staging/part_agreement.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/dtype.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

constexpr uint32_t kNone = UINT32_MAX;

// There are as many of these as a checkpoint has leaves and shards: they hold places, not what is
// there. A part is its place in the list of all.

// A leaf of all ranks that share it, as the first of them declares it. Its stored boxes are a list
// in Agreement::boxes_.
struct SharedLeaf {
  uint32_t part;
  uint32_t leaf;
  uint32_t last_box = kNone;
  bool alias = false;
};

struct StoredBox {
  uint32_t part;
  uint32_t shard;
  uint32_t before;  // of the same leaf
};

std::string PrintShape(const LeafView& leaf) {
  return absl::StrCat("[", absl::StrJoin(leaf.shape, ", "), "]");
}

absl::Status Disagree(absl::string_view key, absl::string_view what, absl::string_view first,
                      uint32_t first_rank, absl::string_view second, uint32_t second_rank) {
  return absl::InvalidArgumentError(absl::StrCat("ranks disagree on the ", what, " of '", key,
                                                 "': ", first, " on rank ", first_rank, ", ",
                                                 second, " on rank ", second_rank));
}

std::string PlacementName(const LeafView& leaf) {
  return v1::Placement_Name(leaf.placement).substr(sizeof("PLACEMENT_") - 1);
}

absl::Status CheckSame(const LeafView& first, uint32_t first_rank, const LeafView& leaf,
                       uint32_t rank) {
  const absl::string_view key = first.printed_key;
  if (first.placement != leaf.placement) {
    return Disagree(key, "placement", PlacementName(first), first_rank, PlacementName(leaf), rank);
  }
  if (first.kind != leaf.kind) {
    return Disagree(key, "kind", v1::LeafKind_Name(first.kind), first_rank,
                    v1::LeafKind_Name(leaf.kind), rank);
  }
  if (first.dtype != leaf.dtype) {
    return Disagree(key, "dtype", std::string(DTypeName(first.dtype)), first_rank,
                    std::string(DTypeName(leaf.dtype)), rank);
  }
  if (first.shape != leaf.shape) {
    return Disagree(key, "shape", PrintShape(first), first_rank, PrintShape(leaf), rank);
  }
  return absl::OkStatus();
}

absl::Status CheckReplicatedLists(const std::vector<RankLayout>& parts) {
  const absl::string_view first = parts.front().layout->replicated_digest();
  std::vector<uint32_t> other;
  for (const RankLayout& part : parts) {
    if (part.layout->replicated_digest() != first) other.push_back(part.rank);
  }
  if (other.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("ranks disagree on the list of replicated tensors and values: that of rank ",
                   absl::StrJoin(other, ", "), " is not that of rank ", parts.front().rank,
                   "; every rank must declare the same keys, dtypes and shapes as REPLICATED"));
}

// `have`: elements in boxes that lie inside the shape and do not overlap.
absl::Status CheckCovered(absl::string_view key, const LeafView& leaf, uint64_t have) {
  const std::optional<uint64_t> volume = Volume(leaf.shape);
  if (have == volume.value_or(0)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("boxes of '", key, "' do not cover its shape ", PrintShape(leaf), ": ", have,
                   " of ", volume.value_or(0), " elements are stored by the ranks of the share"));
}

// Whether each box ends before the next begins, in one dimension for all: what ranks mostly store
// of a tensor. False shows nothing.
bool Ascend(absl::Span<const ShardView> boxes) {
  if (boxes.size() < 2) return true;
  for (size_t d = 0; d < boxes[0].offset.size(); ++d) {
    size_t i = 1;
    while (i < boxes.size() &&
           boxes[i - 1].offset[d] + boxes[i - 1].extent[d] <= boxes[i].offset[d]) {
      ++i;
    }
    if (i == boxes.size()) return true;
  }
  return false;
}

class Agreement {
 public:
  explicit Agreement(const std::vector<RankLayout>& parts) : parts_(parts) {
    size_t shards = 0;
    for (const RankLayout& part : parts) shards += part.layout->shards().size();
    boxes_.reserve(shards);
    shared_.reserve(parts.front().layout->leaves().size());
  }

  // Declares the leaves of one part, and gathers the boxes of those that ranks share.
  absl::Status Add(uint32_t part) {
    const PartLayout& layout = *parts_[part].layout;
    const LeafTable& leaves = layout.leaves();
    std::vector<uint32_t> numbers(leaves.size());
    for (uint32_t i = 0; i < numbers.size(); ++i) {
      const LeafView leaf = leaves[i];
      numbers[i] = NumberOf(leaf.printed_key, part, i);
      SharedLeaf& shared = shared_[numbers[i]];
      shared.alias |= leaf.alias_of_plus_one != 0;
      if (shared.part == part) continue;  // keys of one part are distinct
      const LeafView first = DeclarationOf(shared);
      // PER_RANK leaves are one rank's own, but a key that others share cannot be one.
      if (leaf.placement != v1::PLACEMENT_PER_RANK ||
          first.placement != v1::PLACEMENT_PER_RANK) {
        CKPT_RETURN_IF_ERROR(CheckSame(first, parts_[shared.part].rank, leaf, parts_[part].rank));
      }
    }
    const ShardTable& shards = layout.shard_boxes();
    for (uint32_t s = 0; s < shards.size(); ++s) {
      const uint32_t leaf = shards[s].leaf;
      if (leaves[leaf].placement == v1::PLACEMENT_PER_RANK) continue;
      SharedLeaf& shared = shared_[numbers[leaf]];
      boxes_.push_back({part, s, shared.last_box});
      shared.last_box = static_cast<uint32_t>(boxes_.size() - 1);
    }
    last_numbers_ = std::move(numbers);
    return absl::OkStatus();
  }

  absl::Status CheckShared(bool whole_world) {
    for (const SharedLeaf& shared : shared_) {
      const LeafView leaf = DeclarationOf(shared);
      if (!IsTensorKind(leaf.kind) || leaf.placement == v1::PLACEMENT_PER_RANK) continue;
      const bool must_cover =
          !shared.alias && (whole_world || leaf.placement == v1::PLACEMENT_REPLICATED);
      CKPT_RETURN_IF_ERROR(CheckBoxes(shared, leaf, must_cover));
    }
    return absl::OkStatus();
  }

 private:
  LeafView DeclarationOf(const SharedLeaf& shared) const {
    return parts_[shared.part].layout->leaves()[shared.leaf];
  }
  absl::string_view KeyOf(const SharedLeaf& shared) const {
    return parts_[shared.part].layout->leaves().printed_key(shared.leaf);
  }

  // Ranks mostly declare the same leaves in the same order: the part before knows. The keys of the
  // first are looked up only once another part has one elsewhere.
  uint32_t NumberOf(absl::string_view key, uint32_t part, uint32_t leaf) {
    const auto next = static_cast<uint32_t>(shared_.size());
    if (part == 0) {
      shared_.push_back({part, leaf});
      return next;
    }
    if (leaf < last_numbers_.size() && KeyOf(shared_[last_numbers_[leaf]]) == key) {
      return last_numbers_[leaf];
    }
    if (by_key_.empty()) {
      for (uint32_t i = 0; i < next; ++i) by_key_.emplace(KeyOf(shared_[i]), i);
    }
    const auto [it, inserted] = by_key_.try_emplace(key, next);
    if (inserted) shared_.push_back({part, leaf});
    return it->second;
  }

  absl::Status CheckBoxes(const SharedLeaf& shared, const LeafView& leaf, bool must_cover) {
    leaf_boxes_.clear();
    leaf_ranks_.clear();
    uint64_t have = 0;
    for (uint32_t i = shared.last_box; i != kNone; i = boxes_[i].before) {
      const RankLayout& part = parts_[boxes_[i].part];
      leaf_boxes_.push_back(part.layout->shard_boxes()[boxes_[i].shard]);
      leaf_ranks_.push_back(part.rank);
      have += Volume(leaf_boxes_.back().extent).value_or(0);  // inside the shape: no overflow
    }
    std::reverse(leaf_boxes_.begin(), leaf_boxes_.end());  // rank order
    if (!Ascend(leaf_boxes_)) {
      std::reverse(leaf_ranks_.begin(), leaf_ranks_.end());
      CKPT_RETURN_IF_ERROR(CheckOverlap(leaf.printed_key));
    }
    return must_cover ? CheckCovered(leaf.printed_key, leaf, have) : absl::OkStatus();
  }

  // The boxes of the leaf at hand.
  absl::Status CheckOverlap(absl::string_view key) const {
    std::vector<Box> boxes;
    boxes.reserve(leaf_boxes_.size());
    for (const ShardView& shard : leaf_boxes_) boxes.push_back(shard.box());
    const absl::Status disjoint = CheckDisjoint(boxes);
    if (disjoint.ok()) return disjoint;
    if (absl::IsResourceExhausted(disjoint)) {
      return absl::ResourceExhaustedError(absl::StrCat("'", key, "': ", disjoint.message()));
    }
    // CheckDisjoint names boxes by index; ranks are what people know.
    std::vector<std::string> who;
    for (size_t i = 0; i < boxes.size() && i < 16; ++i) {
      who.push_back(
          absl::StrCat("box ", i, " ", boxes[i].ToString(), " of rank ", leaf_ranks_[i]));
    }
    return absl::InvalidArgumentError(absl::StrCat(
        "boxes of '", key, "' overlap: ", disjoint.message(), " (", absl::StrJoin(who, "; "), ")"));
  }

  const std::vector<RankLayout>& parts_;
  absl::flat_hash_map<absl::string_view, uint32_t> by_key_;
  std::vector<SharedLeaf> shared_;
  std::vector<StoredBox> boxes_;
  std::vector<uint32_t> last_numbers_;
  std::vector<ShardView> leaf_boxes_;  // of the leaf at hand
  std::vector<uint32_t> leaf_ranks_;
};

// One rank's own tensors. That boxes of one part do not overlap is seen to by its layout.
absl::Status CheckOwn(const RankLayout& part) {
  const PartLayout& layout = *part.layout;
  const LeafTable& leaves = layout.leaves();
  const ShardTable& shards = layout.shard_boxes();
  std::vector<uint64_t> have(leaves.size(), 0);
  for (size_t s = 0; s < shards.size(); ++s) {
    const ShardView shard = shards[s];
    if (leaves[shard.leaf].placement != v1::PLACEMENT_PER_RANK) continue;
    have[shard.leaf] += Volume(shard.extent).value_or(0);
  }
  for (size_t i = 0; i < have.size(); ++i) {
    const LeafView leaf = leaves[i];
    if (leaf.placement != v1::PLACEMENT_PER_RANK || !IsTensorKind(leaf.kind) ||
        leaf.alias_of_plus_one != 0) {
      continue;
    }
    CKPT_RETURN_IF_ERROR(CheckCovered(leaf.printed_key, leaf, have[i]));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckAgreement(const std::vector<RankLayout>& parts, bool whole_world) {
  if (parts.empty()) return absl::OkStatus();
  CKPT_RETURN_IF_ERROR(CheckReplicatedLists(parts));
  Agreement agreement(parts);
  for (uint32_t part = 0; part < parts.size(); ++part) {
    CKPT_RETURN_IF_ERROR(agreement.Add(part));
  }
  for (const RankLayout& part : parts) CKPT_RETURN_IF_ERROR(CheckOwn(part));
  return agreement.CheckShared(whole_world);
}

}  // namespace ckpt
