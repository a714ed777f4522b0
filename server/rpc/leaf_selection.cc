#include "server/rpc/leaf_selection.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/collected_errors.h"
#include "common/key.h"
#include "common/limits.h"
#include "common/quoted.h"
#include "common/status_macros.h"
#include "server/rpc/nearest_keys.h"

namespace ckpt {
namespace {

constexpr size_t kSlicesMax = 65536;
constexpr uint64_t kLeavesPerLook = 4096;  // between looks at whether the caller is still there

// "rank 0", "ranks 0-7", or "8 ranks between 0 and 63" where it is a node's share with holes.
std::string RanksText(const std::set<uint32_t>& ranks) {
  if (ranks.empty()) return "no ranks";
  const uint32_t first = *ranks.begin();
  const uint32_t last = *ranks.rbegin();
  if (first == last) return absl::StrCat("rank ", first);
  if (last - first + 1 == ranks.size()) return absl::StrCat("ranks ", first, "-", last);
  return absl::StrCat(ranks.size(), " ranks between ", first, " and ", last);
}

}  // namespace

absl::StatusOr<LeafSelection> LeafSelection::Create(const v1::Selection& selection) {
  CKPT_ASSIGN_OR_RETURN(LeafFilter filter, LeafFilter::FromSelection(selection));
  LeafSelection made(std::move(filter));
  made.only_exact_ = selection.keys_size() > 0 && selection.include_size() == 0 &&
                     selection.include_matching_size() == 0;
  made.ranges_ = made.only_exact_ ? made.filter_.exact_keys() : made.filter_.Prefixes();
  if (static_cast<size_t>(selection.slices_size()) > kSlicesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("at most ", kSlicesMax, " slices, got ", selection.slices_size()));
  }
  CollectedErrors errors;
  for (const v1::Selection::Slice& slice : selection.slices()) {
    const std::string printed = PrintKey(slice.key());
    if (slice.box().offset_size() != slice.box().extent_size() ||
        static_cast<size_t>(slice.box().extent_size()) > kDimensionsMax) {
      errors.Add(absl::InvalidArgumentError(absl::StrCat(
          "slice of ", Quoted(printed), ": its box has ", slice.box().offset_size(),
          " offsets and ", slice.box().extent_size(), " extents")));
      continue;
    }
    made.slices_[printed].push_back(Box::FromProto(slice.box()));
  }
  CKPT_RETURN_IF_ERROR(errors.ToStatus());
  return made;
}

absl::Status LeafSelection::ForEach(LeafMerge& leaves, absl::string_view from, Cancelled cancelled,
                                    absl::FunctionRef<absl::StatusOr<bool>()> visit) const {
  uint64_t looked_at = 0;
  for (const std::string& range : ranges_) {
    if (from > range && !Inside(range, from)) continue;
    CKPT_RETURN_IF_ERROR(leaves.Seek(std::max(from, absl::string_view(range))));
    while (leaves.valid() && Inside(range, leaves.printed_key())) {
      if (++looked_at % kLeavesPerLook == 0 && cancelled()) return CallerHasGone();
      if (filter_.Matches(leaves.facts())) {
        CKPT_ASSIGN_OR_RETURN(const bool more, visit());
        if (!more) return absl::OkStatus();
      }
      CKPT_RETURN_IF_ERROR(leaves.Next());
    }
  }
  return absl::OkStatus();
}

bool LeafSelection::Inside(absl::string_view range, absl::string_view key) const {
  return only_exact_ ? key == range : absl::StartsWith(key, range);
}

absl::StatusOr<bool> LeafSelection::SkipToRange(LeafMerge& leaves) const {
  while (leaves.valid()) {
    // No range begins with another one, so only the last that isn't behind the key may hold it.
    const absl::string_view key = leaves.printed_key();
    const auto next = std::upper_bound(ranges_.begin(), ranges_.end(), key);
    if (next != ranges_.begin() && Inside(*std::prev(next), key)) return true;
    if (next == ranges_.end()) return false;
    CKPT_RETURN_IF_ERROR(leaves.Seek(*next));
  }
  return false;
}

const std::vector<Box>* LeafSelection::BoxesOf(absl::string_view printed_key) const {
  const auto slices = slices_.find(printed_key);
  return slices == slices_.end() ? nullptr : &slices->second;
}

absl::Status LeafSelection::CheckNamed(absl::Span<LeafMerge* const> checkpoints) const {
  std::set<uint32_t> there;
  for (const LeafMerge* checkpoint : checkpoints) {
    for (const uint32_t rank : checkpoint->ranks()) there.insert(rank);
  }
  std::vector<uint32_t> missing;
  for (const uint32_t rank : filter_.included_ranks()) {
    if (!there.contains(rank)) missing.push_back(rank);
  }
  if (!missing.empty()) {
    return absl::NotFoundError(absl::StrCat(
        checkpoints.size() > 1 ? "neither checkpoint has anything" : "the checkpoint has nothing",
        " of rank ", absl::StrJoin(missing, ", "), ": there are ", RanksText(there)));
  }
  return CheckKeysExist(filter_.named_keys(), checkpoints);
}

}  // namespace ckpt
