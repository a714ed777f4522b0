#include "server/rpc/leaf_merge.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/key.h"
#include "common/limits.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

constexpr size_t kSlicesMax = 65536;
constexpr size_t kMissingShown = 10;

bool SameBoxCount(const v1::Box& box) { return box.offset_size() == box.extent_size(); }

}  // namespace

absl::StatusOr<LeafMerge> LeafMerge::Create(const v1::Selection& selection) {
  CKPT_ASSIGN_OR_RETURN(LeafFilter filter, LeafFilter::FromSelection(selection));
  LeafMerge merge(std::move(filter));
  merge.named_ = merge.filter_.exact_keys();
  if (static_cast<size_t>(selection.slices_size()) > kSlicesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("at most ", kSlicesMax, " slices, got ", selection.slices_size()));
  }
  for (const v1::Selection::Slice& slice : selection.slices()) {
    CKPT_RETURN_IF_ERROR(ValidateKey(slice.key()));
    const std::string printed = PrintKey(slice.key());
    if (!SameBoxCount(slice.box()) ||
        static_cast<size_t>(slice.box().extent_size()) > kDimensionsMax) {
      return absl::InvalidArgumentError(absl::StrCat("slice of '", printed, "': its box has ",
                                                     slice.box().offset_size(), " offsets and ",
                                                     slice.box().extent_size(), " extents"));
    }
    merge.slices_[printed].push_back(Box::FromProto(slice.box()));
    merge.named_.push_back(printed);
  }
  return merge;
}

uint32_t LeafMerge::NumberOf(uint32_t rank, uint32_t position, const v1::Leaf& leaf,
                             const std::string& printed) {
  auto& numbers = leaf.placement() == v1::PLACEMENT_PER_RANK ? own_ : shared_;
  const auto [it, inserted] = numbers.try_emplace(printed, static_cast<uint32_t>(leaves_.size()));
  if (inserted) {
    v1::PlannedLeaf& planned = leaves_.emplace_back();
    *planned.mutable_leaf() = leaf;
    planned.mutable_leaf()->clear_alias_of_plus_one();
    planned.set_leaf_number(it->second);
    planned.set_rank(rank);
    planned.set_position(position);
    needs_.emplace_back();
  }
  return it->second;
}

absl::Status LeafMerge::Add(uint32_t rank, const PartLayout& layout, const v1::Values& values) {
  own_.clear();
  std::vector<uint32_t>& numbers = numbers_.emplace_back(layout.proto().leaves_size(), kNotNeeded);
  for (int i = 0; i < layout.proto().leaves_size(); ++i) {
    const v1::Leaf& leaf = layout.proto().leaves(i);
    const std::string& printed = layout.printed_keys()[i];
    if (!named_.empty()) seen_.insert(printed);
    if (!filter_.Matches(FactsOf(leaf, printed, rank))) continue;
    uint32_t storage;
    if (leaf.alias_of_plus_one() != 0) {
      const int target = static_cast<int>(leaf.alias_of_plus_one()) - 1;  // always an earlier leaf
      storage = NumberOf(rank, static_cast<uint32_t>(target), layout.proto().leaves(target),
                         layout.printed_keys()[target]);
      numbers[target] = storage;
      numbers[i] = NumberOf(rank, static_cast<uint32_t>(i), leaf, printed);
      leaves_[numbers[i]].set_alias_of(storage);
    } else {
      storage = numbers[i] = NumberOf(rank, static_cast<uint32_t>(i), leaf, printed);
    }
    leaves_[numbers[i]].set_selected(true);
    const auto slices = slices_.find(printed);
    if (slices == slices_.end()) {
      needs_[storage].whole = true;
      continue;
    }
    const std::vector<uint64_t> shape(leaf.shape().begin(), leaf.shape().end());
    for (const Box& box : slices->second) {
      if (const absl::Status status = ValidateBox(box, shape); !status.ok()) {
        return absl::InvalidArgumentError(
            absl::StrCat("slice of '", printed, "': ", status.message()));
      }
    }
    // Replicas name the same boxes again.
    if (needs_[storage].boxes.size() < slices->second.size() || storage != numbers[i]) {
      needs_[storage].boxes.insert(needs_[storage].boxes.end(), slices->second.begin(),
                                   slices->second.end());
    }
  }
  for (const v1::Values::Entry& entry : values.entries()) {
    if (entry.leaf() >= numbers.size() || numbers[entry.leaf()] == kNotNeeded) continue;
    v1::PlannedLeaf& planned = leaves_[numbers[entry.leaf()]];
    if (!planned.has_value()) *planned.mutable_value() = entry.value();
  }
  return absl::OkStatus();
}

absl::Status LeafMerge::CheckNamedKeys() const {
  std::vector<std::string> missing;
  for (const std::string& key : named_) {
    if (!seen_.contains(key)) missing.push_back(key);
  }
  if (missing.empty()) return absl::OkStatus();
  const std::vector<std::string> all(seen_.begin(), seen_.end());
  const std::vector<std::string> nearest = NearestNames(missing.front(), all, 3);
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
