#include "common/shard_table.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/layout_wire.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

using internal::BadLayout;

// Canonical order of two leaves: descending element size, then printed key.
std::strong_ordering CompareLeaves(const LeafTable& leaves, uint32_t a, uint32_t b) {
  const uint64_t a_bytes = DTypeBytes(leaves[a].dtype);
  const uint64_t b_bytes = DTypeBytes(leaves[b].dtype);
  return a_bytes != b_bytes ? b_bytes <=> a_bytes
                            : leaves.printed_key(a).compare(leaves.printed_key(b)) <=> 0;
}

std::strong_ordering CompareBoxes(const ShardView& a, const ShardView& b) {
  const std::strong_ordering by_offset = std::lexicographical_compare_three_way(
      a.offset.begin(), a.offset.end(), b.offset.begin(), b.offset.end());
  if (by_offset != 0) return by_offset;
  return std::lexicographical_compare_three_way(a.extent.begin(), a.extent.end(),
                                                b.extent.begin(), b.extent.end());
}

}  // namespace

Box ShardView::box() const {
  return {Extents(offset.begin(), offset.end()), Extents(extent.begin(), extent.end())};
}

void ShardTable::Reserve(size_t shards) {
  rows_.reserve(shards);
  numbers_.reserve(2 * shards);
}

absl::Status ShardTable::Add(const LeafTable& leaves, uint32_t leaf,
                             absl::Span<const uint64_t> offset,
                             absl::Span<const uint64_t> extent) {
  if (leaf >= leaves.size()) {
    return BadLayout(absl::StrCat("shard ", size()),
                     absl::StrCat("leaf ", leaf, " of ", leaves.size()));
  }
  const LeafView view = leaves[leaf];
  auto refuse = [&](absl::string_view why) {
    return BadLayout(absl::StrCat("shard ", size(), " of ", leaves.Name(leaf)), why);
  };
  if (!IsTensorKind(view.kind)) return refuse("the leaf is no tensor");
  if (view.alias_of_plus_one != 0) return refuse("the leaf is an alias");
  const Box box = {Extents(offset.begin(), offset.end()), Extents(extent.begin(), extent.end())};
  if (const absl::Status status = ValidateBox(box, view.shape); !status.ok()) {
    return refuse(status.message());
  }
  if (box.empty()) return refuse(absl::StrCat("its box ", box.ToString(), " is empty"));
  rows_.push_back({leaf, static_cast<uint32_t>(numbers_.size()),
                   static_cast<uint32_t>(extent.size())});
  numbers_.insert(numbers_.end(), offset.begin(), offset.end());
  numbers_.insert(numbers_.end(), extent.begin(), extent.end());
  return absl::OkStatus();
}

void ShardTable::Sort(const LeafTable& leaves) {
  const auto view = [this](const Row& row) {
    const uint64_t* numbers = numbers_.data() + row.numbers_begin;
    return ShardView{row.leaf,
                     {numbers, row.dimensions},
                     {numbers + row.dimensions, row.dimensions}};
  };
  const auto in_order = [&](const Row& a, const Row& b) {
    if (a.leaf == b.leaf) return CompareBoxes(view(a), view(b)) < 0;
    return CompareLeaves(leaves, a.leaf, b.leaf) < 0;
  };
  if (std::is_sorted(rows_.begin(), rows_.end(), in_order)) return;
  // Strings are compared once per leaf, not once per shard.
  struct Place {
    uint64_t element_bytes;
    absl::string_view printed;
    uint32_t leaf;
  };
  std::vector<Place> places;
  places.reserve(leaves.size());
  for (uint32_t i = 0; i < leaves.size(); ++i) {
    places.push_back({DTypeBytes(leaves[i].dtype), leaves.printed_key(i), i});
  }
  std::sort(places.begin(), places.end(), [](const Place& a, const Place& b) {
    return a.element_bytes != b.element_bytes ? a.element_bytes > b.element_bytes
                                              : a.printed < b.printed;
  });
  std::vector<uint32_t> order(places.size());
  for (uint32_t i = 0; i < places.size(); ++i) order[places[i].leaf] = i;
  std::sort(rows_.begin(), rows_.end(), [&](const Row& a, const Row& b) {
    return a.leaf != b.leaf ? order[a.leaf] < order[b.leaf] : CompareBoxes(view(a), view(b)) < 0;
  });
}

absl::Status ShardTable::CheckOrderAndOverlap(const LeafTable& leaves) const {
  size_t first_of_leaf = 0;
  for (size_t i = 1; i < size(); ++i) {
    const ShardView before = (*this)[i - 1];
    const ShardView shard = (*this)[i];
    const bool same_leaf = before.leaf == shard.leaf;
    if ((same_leaf ? CompareBoxes(before, shard)
                   : CompareLeaves(leaves, before.leaf, shard.leaf)) >= 0) {
      return BadLayout(absl::StrCat("shard ", i), "out of order, or there twice");
    }
    if (same_leaf) continue;
    CKPT_RETURN_IF_ERROR(CheckDisjoint(leaves, first_of_leaf, i));
    first_of_leaf = i;
  }
  return CheckDisjoint(leaves, first_of_leaf, size());
}

bool ShardTable::ShowLeavesDistinct(const LeafTable& leaves) const {
  if (size() < leaves.size() || size() == 0) return false;
  const uint64_t element_bytes = DTypeBytes(leaves[rows_.front().leaf].dtype);
  if (DTypeBytes(leaves[rows_.back().leaf].dtype) != element_bytes) return false;  // descending
  size_t seen = 1;
  for (size_t i = 1; i < size(); ++i) seen += rows_[i].leaf != rows_[i - 1].leaf;
  return seen == leaves.size();
}

// Shards [first, last) are of one leaf.
absl::Status ShardTable::CheckDisjoint(const LeafTable& leaves, size_t first, size_t last) const {
  if (last - first < 2) return absl::OkStatus();
  std::vector<Box> boxes;
  boxes.reserve(last - first);
  for (size_t i = first; i < last; ++i) boxes.push_back((*this)[i].box());
  const absl::Status status = CheckTiling(boxes, nullptr);
  if (status.ok()) return status;
  return BadLayout(leaves.Name((*this)[first].leaf), status.message());
}

uint64_t ShardTable::MemoryBytes() const {
  return rows_.capacity() * sizeof(Row) + numbers_.capacity() * sizeof(uint64_t);
}

}  // namespace ckpt
