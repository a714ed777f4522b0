#include "client/restore/piece_index.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace ckpt {
namespace {

constexpr uint32_t kFew = 8;  // looked at one by one

// Neither is empty, and both lie in one shape: no end overflows.
bool Meet(const Box& a, const Box& b) {
  const size_t rank = a.rank();
  for (size_t d = 0; d < rank; ++d) {
    if (a.offset[d] >= b.offset[d] + b.extent[d] || b.offset[d] >= a.offset[d] + a.extent[d]) {
      return false;
    }
  }
  return true;
}

// Grows `bounds` until it holds `box`.
void Include(const Box& box, Box& bounds) {
  for (size_t d = 0; d < box.rank(); ++d) {
    const uint64_t end =
        std::max(bounds.offset[d] + bounds.extent[d], box.offset[d] + box.extent[d]);
    bounds.offset[d] = std::min(bounds.offset[d], box.offset[d]);
    bounds.extent[d] = end - bounds.offset[d];
  }
}

}  // namespace

uint32_t PieceIndex::AddNode(absl::Span<const StoredPiece> pieces, uint32_t begin, uint32_t end) {
  const auto number = static_cast<uint32_t>(nodes_.size());
  Node node{pieces[numbers_[begin]].box, begin, end, 0};
  const size_t rank = node.bounds.rank();
  Extents least = node.bounds.offset, greatest = node.bounds.offset;
  for (uint32_t i = begin; i < end; ++i) {
    const Box& box = pieces[numbers_[i]].box;
    Include(box, node.bounds);
    for (size_t d = 0; d < rank; ++d) {
      least[d] = std::min(least[d], box.offset[d]);
      greatest[d] = std::max(greatest[d], box.offset[d]);
    }
  }
  nodes_.push_back(std::move(node));
  if (end - begin <= kFew) return number;
  size_t widest = 0;
  for (size_t d = 1; d < rank; ++d) {
    if (greatest[d] - least[d] > greatest[widest] - least[widest]) widest = d;
  }
  const uint32_t middle = begin + (end - begin) / 2;
  std::nth_element(numbers_.begin() + begin, numbers_.begin() + middle, numbers_.begin() + end,
                   [&](uint32_t a, uint32_t b) {
                     return pieces[a].box.offset[widest] < pieces[b].box.offset[widest];
                   });
  AddNode(pieces, begin, middle);
  const uint32_t second = AddNode(pieces, middle, end);
  nodes_[number].second = second;
  return number;
}

absl::Status PieceIndex::Build(absl::Span<const StoredPiece> pieces) {
  const auto count = static_cast<uint32_t>(numbers_.size());
  // Boxes of no dimension have no middle to be halved at, and overlap anyway.
  if (count > kFew && pieces[numbers_[0]].box.rank() > 0) AddNode(pieces, 0, count);
  for (const uint32_t number : numbers_) {
    const Box& box = pieces[number].box;
    const Box* other = nullptr;
    ForEachMeeting(pieces, box, [&](uint32_t met) {
      if (met != number) other = &pieces[met].box;
    });
    if (other == nullptr) continue;
    return absl::FailedPreconditionError(
        absl::StrCat("boxes ", box.ToString(), " and ", other->ToString(), " overlap"));
  }
  return absl::OkStatus();
}

void PieceIndex::ForEachMeeting(absl::Span<const StoredPiece> pieces, const Box& region,
                                absl::FunctionRef<void(uint32_t piece)> visit) const {
  const auto look_at = [&](uint32_t begin, uint32_t end) {
    for (uint32_t i = begin; i < end; ++i) {
      if (Meet(pieces[numbers_[i]].box, region)) visit(numbers_[i]);
    }
  };
  if (nodes_.empty()) return look_at(0, static_cast<uint32_t>(numbers_.size()));
  absl::InlinedVector<uint32_t, 64> pending = {0};
  while (!pending.empty()) {
    const uint32_t number = pending.back();
    pending.pop_back();
    const Node& node = nodes_[number];
    if (!Meet(node.bounds, region)) continue;
    if (node.second == 0) {
      look_at(node.begin, node.end);
    } else {
      pending.push_back(node.second);
      pending.push_back(number + 1);
    }
  }
}

}  // namespace ckpt
