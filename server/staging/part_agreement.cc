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
#include "common/dtype.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

constexpr uint32_t kNone = UINT32_MAX;

// A leaf of all ranks that share it. Its stored boxes are a list in Agreement::boxes_.
struct SharedLeaf {
  absl::string_view key;
  std::optional<LeafView> declared;
  uint32_t declared_by = 0;
  bool alias = false;
  uint32_t first_box = kNone;
};

struct StoredBox {
  ShardView shard;
  uint32_t rank;
  uint32_t next;
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

absl::Status CheckSame(absl::string_view key, const SharedLeaf& shared, const LeafView& leaf,
                       uint32_t rank) {
  const LeafView& first = *shared.declared;
  const uint32_t first_rank = shared.declared_by;
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

class Agreement {
 public:
  explicit Agreement(size_t leaves) { by_key_.reserve(leaves); }

  // Declares the leaves of one part, and gathers the boxes of those that ranks share.
  absl::Status Add(const RankLayout& part) {
    const PartLayout& layout = *part.layout;
    const LeafTable& leaves = layout.leaves();
    std::vector<uint32_t> numbers(leaves.size());
    for (size_t i = 0; i < numbers.size(); ++i) {
      const LeafView leaf = leaves[i];
      numbers[i] = NumberOf(leaf.printed_key, i);
      SharedLeaf& shared = shared_[numbers[i]];
      shared.alias |= leaf.alias_of_plus_one != 0;
      if (!shared.declared.has_value()) {
        shared.declared = leaf;
        shared.declared_by = part.rank;
      } else if (leaf.placement != v1::PLACEMENT_PER_RANK ||
                 shared.declared->placement != v1::PLACEMENT_PER_RANK) {
        // PER_RANK leaves are one rank's own, but a key that others share cannot be one.
        CKPT_RETURN_IF_ERROR(CheckSame(shared.key, shared, leaf, part.rank));
      }
    }
    const ShardTable& shards = layout.shard_boxes();
    for (size_t s = 0; s < shards.size(); ++s) {
      const ShardView shard = shards[s];
      if (leaves[shard.leaf].placement == v1::PLACEMENT_PER_RANK) continue;
      SharedLeaf& shared = shared_[numbers[shard.leaf]];
      boxes_.push_back({shard, part.rank, shared.first_box});
      shared.first_box = static_cast<uint32_t>(boxes_.size() - 1);
    }
    last_numbers_ = std::move(numbers);
    return absl::OkStatus();
  }

  absl::Status CheckShared(bool whole_world) {
    for (const SharedLeaf& shared : shared_) {
      const LeafView& leaf = *shared.declared;
      if (!IsTensorKind(leaf.kind) || leaf.placement == v1::PLACEMENT_PER_RANK) continue;
      const bool must_cover =
          !shared.alias && (whole_world || leaf.placement == v1::PLACEMENT_REPLICATED);
      CKPT_RETURN_IF_ERROR(CheckBoxes(shared, must_cover));
    }
    return absl::OkStatus();
  }

 private:
  // Ranks mostly declare the same leaves in the same order: the part before knows.
  uint32_t NumberOf(absl::string_view key, size_t position) {
    if (position < last_numbers_.size() && shared_[last_numbers_[position]].key == key) {
      return last_numbers_[position];
    }
    const auto [it, inserted] = by_key_.try_emplace(key, static_cast<uint32_t>(shared_.size()));
    if (inserted) shared_.push_back({.key = key, .declared = std::nullopt});
    return it->second;
  }

  absl::Status CheckBoxes(const SharedLeaf& shared, bool must_cover) {
    const LeafView& leaf = *shared.declared;
    std::vector<Box>& boxes = leaf_boxes_;
    std::vector<uint32_t>& ranks = leaf_ranks_;
    boxes.clear();
    ranks.clear();
    uint64_t have = 0;
    for (uint32_t i = shared.first_box; i != kNone; i = boxes_[i].next) {
      boxes.push_back(boxes_[i].shard.box());
      ranks.push_back(boxes_[i].rank);
      have += boxes.back().volume();  // no overflow: they lie inside the shape
    }
    std::reverse(boxes.begin(), boxes.end());  // rank order
    std::reverse(ranks.begin(), ranks.end());
    const absl::Status tiling = CheckTiling(boxes, nullptr);
    if (absl::IsResourceExhausted(tiling)) return tiling;  // too irregular to be looked at
    if (!tiling.ok()) {
      // CheckTiling names boxes by index; ranks are what people know.
      std::vector<std::string> who;
      for (size_t i = 0; i < boxes.size() && i < 16; ++i) {
        who.push_back(
            absl::StrCat("box ", i, " ", boxes[i].ToString(), " of rank ", ranks[i]));
      }
      return absl::InvalidArgumentError(absl::StrCat("boxes of '", shared.key, "' overlap: ",
                                                     tiling.message(), " (",
                                                     absl::StrJoin(who, "; "), ")"));
    }
    return must_cover ? CheckCovered(shared.key, leaf, have) : absl::OkStatus();
  }

  absl::flat_hash_map<absl::string_view, uint32_t> by_key_;
  std::vector<SharedLeaf> shared_;
  std::vector<StoredBox> boxes_;
  std::vector<uint32_t> last_numbers_;
  std::vector<Box> leaf_boxes_;  // of the leaf at hand
  std::vector<uint32_t> leaf_ranks_;
};

// One rank's own tensors. That boxes of one part do not overlap is seen to by its layout.
absl::Status CheckOwn(const RankLayout& part) {
  const PartLayout& layout = *part.layout;
  const LeafTable& leaves = layout.leaves();
  const ShardTable& shards = layout.shard_boxes();
  std::vector<uint64_t> have(leaves.size(), 0);
  for (size_t s = 0; s < shards.size(); ++s) {
    have[shards[s].leaf] += Volume(shards[s].extent).value_or(0);
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
  Agreement agreement(parts.front().layout->leaves().size());
  for (const RankLayout& part : parts) CKPT_RETURN_IF_ERROR(agreement.Add(part));
  for (const RankLayout& part : parts) CKPT_RETURN_IF_ERROR(CheckOwn(part));
  return agreement.CheckShared(whole_world);
}

}  // namespace ckpt
