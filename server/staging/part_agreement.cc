#include "server/staging/part_agreement.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "common/dtype.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

// A leaf of all ranks that share it, and the boxes that they store of it.
struct SharedLeaf {
  const v1::Leaf* declared = nullptr;
  uint32_t declared_by = 0;
  bool alias = false;
  std::vector<Box> boxes;
  std::vector<uint32_t> box_ranks;
};

std::string PrintShape(const v1::Leaf& leaf) {
  return absl::StrCat("[", absl::StrJoin(leaf.shape(), ", "), "]");
}

absl::Status Disagree(absl::string_view key, absl::string_view what, absl::string_view first,
                      uint32_t first_rank, absl::string_view second, uint32_t second_rank) {
  return absl::InvalidArgumentError(absl::StrCat("ranks disagree on the ", what, " of '", key,
                                                 "': ", first, " on rank ", first_rank, ", ",
                                                 second, " on rank ", second_rank));
}

std::string PlacementName(const v1::Leaf& leaf) {
  return v1::Placement_Name(leaf.placement()).substr(sizeof("PLACEMENT_") - 1);
}

absl::Status CheckSame(absl::string_view key, const SharedLeaf& shared, const v1::Leaf& leaf,
                       uint32_t rank) {
  const v1::Leaf& first = *shared.declared;
  const uint32_t first_rank = shared.declared_by;
  if (first.placement() != leaf.placement()) {
    return Disagree(key, "placement", PlacementName(first), first_rank, PlacementName(leaf), rank);
  }
  if (first.kind() != leaf.kind()) {
    return Disagree(key, "kind", v1::LeafKind_Name(first.kind()), first_rank,
                    v1::LeafKind_Name(leaf.kind()), rank);
  }
  if (first.dtype() != leaf.dtype()) {
    return Disagree(key, "dtype", std::string(DTypeName(first.dtype())), first_rank,
                    std::string(DTypeName(leaf.dtype())), rank);
  }
  if (!std::equal(first.shape().begin(), first.shape().end(), leaf.shape().begin(),
                  leaf.shape().end())) {
    return Disagree(key, "shape", PrintShape(first), first_rank, PrintShape(leaf), rank);
  }
  return absl::OkStatus();
}

absl::Status CheckReplicatedLists(const std::vector<RankLayout>& parts) {
  const std::string& first = parts.front().layout->proto().replicated_digest();
  std::vector<uint32_t> other;
  for (const RankLayout& part : parts) {
    if (part.layout->proto().replicated_digest() != first) other.push_back(part.rank);
  }
  if (other.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("ranks disagree on the list of replicated tensors and values: that of rank ",
                   absl::StrJoin(other, ", "), " is not that of rank ", parts.front().rank,
                   "; every rank must declare the same keys, dtypes and shapes as REPLICATED"));
}

bool CoversWhole(const v1::Leaf& leaf) {
  const std::optional<uint64_t> volume =
      Volume({leaf.shape().data(), static_cast<size_t>(leaf.shape_size())});
  return volume.has_value() && *volume > 0;
}

// CheckTiling names boxes by index; ranks are what people know.
absl::Status CheckBoxes(absl::string_view key, const SharedLeaf& shared, bool must_cover) {
  const v1::Leaf& leaf = *shared.declared;
  const Box whole = Box::Whole({leaf.shape().data(), static_cast<size_t>(leaf.shape_size())});
  const bool cover = must_cover && !shared.alias && CoversWhole(leaf);
  if (shared.boxes.size() == 1 && shared.boxes[0] == whole) return absl::OkStatus();
  absl::Status tiling = CheckTiling(shared.boxes, nullptr);
  if (absl::IsResourceExhausted(tiling)) return tiling;  // too irregular to be looked at
  if (!tiling.ok()) {
    std::vector<std::string> who;
    for (size_t i = 0; i < shared.boxes.size() && i < 16; ++i) {
      who.push_back(absl::StrCat("box ", i, " ", shared.boxes[i].ToString(), " of rank ",
                                 shared.box_ranks[i]));
    }
    return absl::InvalidArgumentError(absl::StrCat(
        "boxes of '", key, "' overlap: ", tiling.message(), " (", absl::StrJoin(who, "; "), ")"));
  }
  if (!cover) return absl::OkStatus();
  tiling = CheckTiling(shared.boxes, &whole);
  if (absl::IsResourceExhausted(tiling)) return tiling;
  if (!tiling.ok()) {
    uint64_t have = 0;
    for (const Box& box : shared.boxes) have += box.volume();
    return absl::InvalidArgumentError(
        absl::StrCat("boxes of '", key, "' do not cover its shape ", PrintShape(leaf), ": ", have,
                     " of ", whole.volume(), " elements are stored by the ranks of the share"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckAgreement(const std::vector<RankLayout>& parts, bool whole_world) {
  if (parts.empty()) return absl::OkStatus();
  CKPT_RETURN_IF_ERROR(CheckReplicatedLists(parts));
  absl::flat_hash_map<std::string, std::unique_ptr<SharedLeaf>> shared;  // do not move
  for (const RankLayout& part : parts) {
    const PartLayout& layout = *part.layout;
    const auto& leaves = layout.proto().leaves();
    std::vector<SharedLeaf*> by_leaf(static_cast<size_t>(leaves.size()), nullptr);
    std::vector<SharedLeaf> own(static_cast<size_t>(leaves.size()));
    for (int i = 0; i < leaves.size(); ++i) {
      const v1::Leaf& leaf = leaves[i];
      const std::string& key = layout.printed_keys()[static_cast<size_t>(i)];
      // PER_RANK leaves are one rank's own, but a key that others share cannot be one.
      std::unique_ptr<SharedLeaf>& of_all = shared[key];
      if (of_all == nullptr) of_all = std::make_unique<SharedLeaf>();
      SharedLeaf* entry = of_all.get();
      entry->alias |= leaf.alias_of_plus_one() != 0;
      if (entry->declared == nullptr) {
        entry->declared = &leaf;
        entry->declared_by = part.rank;
      } else if (leaf.placement() != v1::PLACEMENT_PER_RANK ||
                 entry->declared->placement() != v1::PLACEMENT_PER_RANK) {
        CKPT_RETURN_IF_ERROR(CheckSame(key, *entry, leaf, part.rank));
      }
      if (leaf.placement() == v1::PLACEMENT_PER_RANK) {
        entry = &own[static_cast<size_t>(i)];
        entry->declared = &leaf;
        entry->alias = leaf.alias_of_plus_one() != 0;
      }
      by_leaf[static_cast<size_t>(i)] = entry;
    }
    for (const v1::Shard& shard : layout.proto().shards()) {
      by_leaf[shard.leaf()]->boxes.push_back(Box::FromProto(shard.box()));
      by_leaf[shard.leaf()]->box_ranks.push_back(part.rank);
    }
    for (int i = 0; i < leaves.size(); ++i) {
      const SharedLeaf& entry = own[static_cast<size_t>(i)];
      if (entry.declared == nullptr || !IsTensorKind(entry.declared->kind())) continue;
      CKPT_RETURN_IF_ERROR(
          CheckBoxes(layout.printed_keys()[static_cast<size_t>(i)], entry, /*must_cover=*/true));
    }
  }
  for (const auto& [key, entry] : shared) {
    const v1::Leaf& leaf = *entry->declared;
    if (!IsTensorKind(leaf.kind()) || leaf.placement() == v1::PLACEMENT_PER_RANK) continue;
    CKPT_RETURN_IF_ERROR(
        CheckBoxes(key, *entry, whole_world || leaf.placement() == v1::PLACEMENT_REPLICATED));
  }
  return absl::OkStatus();
}

}  // namespace ckpt
