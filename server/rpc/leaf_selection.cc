#include "server/rpc/leaf_selection.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/key.h"
#include "common/limits.h"
#include "common/status_macros.h"
#include "server/rpc/nearest_keys.h"

namespace ckpt {
namespace {

constexpr size_t kSlicesMax = 65536;
constexpr size_t kMissingShown = 10;
constexpr uint64_t kLeavesPerLook = 4096;  // between looks at whether the caller is still there

}  // namespace

absl::StatusOr<LeafSelection> LeafSelection::Create(const v1::Selection& selection) {
  CKPT_ASSIGN_OR_RETURN(LeafFilter filter, LeafFilter::FromSelection(selection));
  LeafSelection made(std::move(filter));
  made.only_exact_ = selection.keys_size() > 0 && selection.include_size() == 0 &&
                     selection.include_matching_size() == 0;
  made.named_ = made.filter_.exact_keys();
  if (static_cast<size_t>(selection.slices_size()) > kSlicesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("at most ", kSlicesMax, " slices, got ", selection.slices_size()));
  }
  for (const v1::Selection::Slice& slice : selection.slices()) {
    CKPT_RETURN_IF_ERROR(ValidateKey(slice.key()));
    const std::string printed = PrintKey(slice.key());
    if (slice.box().offset_size() != slice.box().extent_size() ||
        static_cast<size_t>(slice.box().extent_size()) > kDimensionsMax) {
      return absl::InvalidArgumentError(absl::StrCat("slice of '", printed, "': its box has ",
                                                     slice.box().offset_size(), " offsets and ",
                                                     slice.box().extent_size(), " extents"));
    }
    made.slices_[printed].push_back(Box::FromProto(slice.box()));
    made.named_.push_back(printed);
  }
  std::sort(made.named_.begin(), made.named_.end());
  made.named_.erase(std::unique(made.named_.begin(), made.named_.end()), made.named_.end());
  return made;
}

absl::Status LeafSelection::ForEach(LeafMerge& leaves, absl::string_view from, Cancelled cancelled,
                                    absl::FunctionRef<absl::StatusOr<bool>()> visit) const {
  uint64_t looked_at = 0;
  for (const std::string& range : only_exact_ ? filter_.exact_keys() : filter_.Prefixes()) {
    const auto inside = [&](absl::string_view key) {
      return only_exact_ ? key == range : absl::StartsWith(key, range);
    };
    if (from > range && !inside(from)) continue;
    CKPT_RETURN_IF_ERROR(leaves.Seek(std::max(from, absl::string_view(range))));
    while (leaves.valid() && inside(leaves.printed_key())) {
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

const std::vector<Box>* LeafSelection::BoxesOf(absl::string_view printed_key) const {
  const auto slices = slices_.find(printed_key);
  return slices == slices_.end() ? nullptr : &slices->second;
}

absl::Status LeafSelection::CheckNamedKeys(LeafMerge& leaves) const {
  std::vector<std::string> missing;
  for (const std::string& key : named_) {
    CKPT_RETURN_IF_ERROR(leaves.Seek(key));
    if (!leaves.valid() || leaves.printed_key() != key) missing.push_back(key);
  }
  if (missing.empty()) return absl::OkStatus();
  CKPT_ASSIGN_OR_RETURN(const std::vector<std::string> nearest,
                        NearestKeys(leaves, missing.front(), 3));
  const size_t count = missing.size();
  if (count > kMissingShown) missing.resize(kMissingShown);
  return absl::NotFoundError(absl::StrCat(
      "the checkpoint has no key '", absl::StrJoin(missing, "', '"), "'",
      count > kMissingShown ? absl::StrCat(" and ", count - kMissingShown, " more") : "",
      nearest.empty()
          ? ""
          : absl::StrCat("; nearest to the first: '", absl::StrJoin(nearest, "', '"), "'")));
}

}  // namespace ckpt
