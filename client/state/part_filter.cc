#include "client/state/part_filter.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/filter.h"
#include "common/key.h"
#include "common/nearest_names.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

constexpr size_t kSuggestionsMax = 20;

// `printed`: of all leaves, sorted.
absl::Status CheckExactKeys(const LeafFilter& filter, const std::vector<std::string>& printed) {
  std::vector<std::string> unknown;
  for (const std::string& key : filter.named_keys()) {
    if (std::binary_search(printed.begin(), printed.end(), key)) continue;
    std::vector<std::string> nearest;
    if (unknown.size() < kSuggestionsMax) nearest = NearestNames(key, printed, 1);
    unknown.push_back(nearest.empty() ? key : absl::StrCat(key, " (nearest: ", nearest[0], ")"));
  }
  if (unknown.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "the selection names keys that are not in the state: ", absl::StrJoin(unknown, ", ")));
}

}  // namespace

absl::StatusOr<std::vector<bool>> SelectedLeaves(const Part& part, const v1::Selection& selection) {
  if (selection.slices_size() > 0) {
    return absl::InvalidArgumentError(
        "a save stores whole leaves: the selection must not have slices");
  }
  CKPT_ASSIGN_OR_RETURN(const LeafFilter filter, LeafFilter::FromSelection(selection));
  std::vector<bool> keep(part.leaves.size(), true);
  if (filter.everything() && filter.named_keys().empty()) return keep;
  std::vector<std::string> printed;
  printed.reserve(part.leaves.size());
  for (size_t i = 0; i < part.leaves.size(); ++i) {
    const PartLeaf& leaf = part.leaves[i];
    std::string& key = printed.emplace_back();
    size_t top_level_bytes = 0;
    CKPT_RETURN_IF_ERROR(
        internal::AppendPrintedKey(leaf.key.serialized(), key, top_level_bytes));
    keep[i] =
        filter.Matches(FactsOf({.printed_key = key,
                                .top_level = absl::string_view(key).substr(0, top_level_bytes),
                                .kind = leaf.kind,
                                .placement = leaf.placement,
                                .dtype = leaf.dtype,
                                .shape = leaf.shape},
                               part.rank));
  }
  if (!filter.named_keys().empty()) {
    std::sort(printed.begin(), printed.end());
    CKPT_RETURN_IF_ERROR(CheckExactKeys(filter, printed));
  }
  return keep;
}

absl::Status KeepLeaves(const std::vector<bool>& keep, Part& part) {
  constexpr uint32_t kNone = UINT32_MAX;
  if (std::find(keep.begin(), keep.end(), false) == keep.end()) return absl::OkStatus();
  for (size_t i = 0; i < part.leaves.size(); ++i) {
    // Only an earlier tensor that is no alias itself holds bytes: common/layout.h.
    const uint32_t alias = part.leaves[i].alias_of_plus_one;
    if (alias > i || (alias > 0 && part.leaves[alias - 1].alias_of_plus_one > 0)) {
      return absl::InvalidArgumentError(
          absl::StrCat("leaf ", PrintKey(part.leaves[i].key),
                       " is not an alias of an earlier leaf that holds bytes"));
    }
  }
  std::vector<PartLeaf> kept;
  std::vector<uint32_t> holder_of(part.leaves.size(), kNone);  // by old number of the holder
  for (size_t i = 0; i < part.leaves.size(); ++i) {
    if (!keep[i]) continue;
    PartLeaf& leaf = part.leaves[i];
    const uint32_t alias = leaf.alias_of_plus_one;
    uint32_t& holder = holder_of[alias == 0 ? i : alias - 1];
    if (holder != kNone) {
      leaf.alias_of_plus_one = holder + 1;
    } else {
      holder = static_cast<uint32_t>(kept.size());
      if (alias > 0) {
        PartLeaf& gone = part.leaves[alias - 1];
        leaf.alias_of_plus_one = 0;
        leaf.box = gone.box;
        leaf.replica_index = gone.replica_index;
        leaf.replica_count = gone.replica_count;
        leaf.data = gone.data;
        leaf.copy = std::move(gone.copy);
        leaf.copy_early = gone.copy_early;
      }
    }
    kept.push_back(std::move(leaf));
  }
  part.leaves = std::move(kept);
  return absl::OkStatus();
}

absl::Status SelectLeaves(const v1::Selection& selection, Part& part) {
  CKPT_ASSIGN_OR_RETURN(const std::vector<bool> keep, SelectedLeaves(part, selection));
  return KeepLeaves(keep, part);
}

}  // namespace ckpt
