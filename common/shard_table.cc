#include "common/shard_table.h"

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

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

// Whether a box is one that ValidateBox takes, and not empty.
bool LiesWithin(absl::Span<const uint64_t> offset, absl::Span<const uint64_t> extent,
                absl::Span<const uint64_t> shape) {
  if (offset.size() != shape.size() || extent.size() != shape.size()) return false;
  for (size_t d = 0; d < shape.size(); ++d) {
    if (offset[d] > shape[d] || extent[d] > shape[d] - offset[d] || extent[d] == 0) return false;
  }
  return true;
}

// A leaf on its way to its place: eight bytes of what it is sorted by, and its number.
struct Place {
  uint64_t word;
  uint32_t leaf;
};

// Bytes [begin, begin + 8) of a key as a number that is in order as they are; zeros behind its end.
uint64_t WordAt(absl::string_view key, size_t begin) {
  uint64_t word = 0;
  for (size_t i = begin; i < begin + 8; ++i) {
    word = word << 8 | (i < key.size() ? static_cast<uint8_t>(key[i]) : 0);
  }
  return word;
}

void SortWords(absl::Span<Place> places) {
  const auto before = [](const Place& a, const Place& b) { return a.word < b.word; };
  if (!std::is_sorted(places.begin(), places.end(), before)) {
    std::sort(places.begin(), places.end(), before);
  }
}

// Calls `visit` with each run of equal words that is longer than one.
template <typename Visit>
void ForEachGroup(absl::Span<Place> places, Visit visit) {
  for (size_t begin = 0, end = 0; begin < places.size(); begin = end) {
    for (end = begin + 1; end < places.size() && places[end].word == places[begin].word;) ++end;
    if (end - begin > 1) visit(places.subspan(begin, end - begin));
  }
}

// By printed key; all have the first `shared` bytes of it in common. Keys are long and begin alike:
// what is common is passed over, and eight bytes at a time are compared of the rest.
void SortByKey(const LeafTable& leaves, size_t shared, absl::Span<Place> places) {
  const absl::string_view first = leaves.printed_key(places[0].leaf);
  size_t common = first.size();
  for (const Place& place : places) {
    const absl::string_view key = leaves.printed_key(place.leaf);
    const auto left = first.begin() + static_cast<ptrdiff_t>(shared);
    const auto right = key.begin() + static_cast<ptrdiff_t>(shared);
    const auto end = first.begin() + static_cast<ptrdiff_t>(common);
    common = static_cast<size_t>(std::mismatch(left, end, right, key.end()).first - first.begin());
  }
  for (Place& place : places) place.word = WordAt(leaves.printed_key(place.leaf), common);
  SortWords(places);
  ForEachGroup(places, [&](absl::Span<Place> group) {
    const bool ended = std::any_of(group.begin(), group.end(), [&](const Place& place) {
      return leaves.printed_key(place.leaf).size() < common + 8;
    });
    if (!ended) return SortByKey(leaves, common + 8, group);
    // Zeros that are bytes of a key, and those behind its end, are told apart.
    std::sort(group.begin(), group.end(), [&](const Place& a, const Place& b) {
      return leaves.printed_key(a.leaf) < leaves.printed_key(b.leaf);
    });
  });
}

// Of each leaf the place that it has among all, in the order of CompareLeaves.
std::vector<uint32_t> OrderOfLeaves(const LeafTable& leaves) {
  std::vector<Place> places;
  places.reserve(leaves.size());
  for (uint32_t i = 0; i < leaves.size(); ++i) {
    places.push_back({UINT64_MAX - DTypeBytes(leaves[i].dtype), i});  // descending
  }
  SortWords(absl::MakeSpan(places));
  ForEachGroup(absl::MakeSpan(places),
               [&](absl::Span<Place> group) { SortByKey(leaves, 0, group); });
  std::vector<uint32_t> order(places.size());
  for (uint32_t i = 0; i < places.size(); ++i) order[places[i].leaf] = i;
  return order;
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
  if (!LiesWithin(offset, extent, view.shape)) {  // or it is empty
    const Box box = {Extents(offset.begin(), offset.end()), Extents(extent.begin(), extent.end())};
    if (const absl::Status status = ValidateBox(box, view.shape); !status.ok()) {
      return refuse(status.message());
    }
    return refuse(absl::StrCat("its box ", box.ToString(), " is empty"));
  }
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
  const std::vector<uint32_t> order = OrderOfLeaves(leaves);
  std::vector<size_t> begins(order.size() + 1, 0);  // where the rows of the n-th leaf begin
  for (const Row& row : rows_) ++begins[order[row.leaf] + 1];
  std::partial_sum(begins.begin(), begins.end(), begins.begin());
  std::vector<Row> sorted(rows_.size());
  std::vector<size_t> next(begins.begin(), begins.end() - 1);
  for (const Row& row : rows_) sorted[next[order[row.leaf]]++] = row;
  for (size_t i = 0; i + 1 < begins.size(); ++i) {
    if (begins[i + 1] - begins[i] < 2) continue;
    std::sort(sorted.begin() + static_cast<ptrdiff_t>(begins[i]),
              sorted.begin() + static_cast<ptrdiff_t>(begins[i + 1]),
              [&](const Row& a, const Row& b) { return CompareBoxes(view(a), view(b)) < 0; });
  }
  rows_ = std::move(sorted);
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
    CKPT_RETURN_IF_ERROR(CheckLeaf(leaves, first_of_leaf, i));
    first_of_leaf = i;
  }
  return CheckLeaf(leaves, first_of_leaf, size());
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
absl::Status ShardTable::CheckLeaf(const LeafTable& leaves, size_t first, size_t last) const {
  if (last - first < 2) return absl::OkStatus();
  std::vector<Box> boxes;
  boxes.reserve(last - first);
  for (size_t i = first; i < last; ++i) boxes.push_back((*this)[i].box());
  const absl::Status status = CheckDisjoint(boxes);
  if (status.ok()) return status;
  return BadLayout(leaves.Name((*this)[first].leaf), status.message());
}

uint64_t ShardTable::MemoryBytes() const {
  return rows_.capacity() * sizeof(Row) + numbers_.capacity() * sizeof(uint64_t);
}

}  // namespace ckpt
