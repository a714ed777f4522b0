// CheckTiling: are boxes disjoint, and do they fill another?
//
// A group of boxes is examined within a region of space:
//   - boxes that differ in one dimension only: sort, compare neighbours;
//   - in two: sweep along one, keep those that are open in an ordered map along the other;
//   - in more: separate the group where a plane cuts through no box (grids fall apart completely);
//     where there is no such plane, cut at a middle face, which puts the boxes that it crosses into
//     both halves. Work is counted, and given up beyond a bound, since boxes may come from anybody.
// Disjoint, inside the cover, and as many elements as the cover: that is a tiling.
#include <algorithm>
#include <limits>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/box.h"

namespace ckpt {
namespace {

using Index = uint32_t;

struct Interval {
  uint64_t begin;
  uint64_t end;
  Index box;
};

struct Group {
  std::vector<Index> items;
  Box region;  // only what lies in here matters
};

struct Overlap {
  Index a;
  Index b;
};

// Both of one rank, neither empty.
bool Meet(const Box& a, const Box& b) {
  for (size_t d = 0; d < a.rank(); ++d) {
    if (a.offset[d] >= b.offset[d] + b.extent[d] || b.offset[d] >= a.offset[d] + a.extent[d]) {
      return false;
    }
  }
  return true;
}

absl::Status OverlapError(absl::Span<const Box> boxes, Index a, Index b) {
  const auto [low, high] = std::minmax(a, b);
  return absl::FailedPreconditionError(absl::StrCat("boxes ", low, " and ", high,
                                                    " overlap: ", boxes[low].ToString(), " and ",
                                                    boxes[high].ToString()));
}

// For a handful of boxes: most tensors of most checkpoints.
absl::Status CheckPairs(absl::Span<const Box> boxes) {
  for (Index i = 0; i < boxes.size(); ++i) {
    for (Index j = i + 1; j < boxes.size(); ++j) {
      if (!boxes[i].empty() && !boxes[j].empty() && Meet(boxes[i], boxes[j])) {
        return OverlapError(boxes, i, j);
      }
    }
  }
  return absl::OkStatus();
}

constexpr size_t kSmall = 8;

class DisjointCheck {
 public:
  explicit DisjointCheck(absl::Span<const Box> boxes) : boxes_(boxes) {}

  absl::Status Run(std::vector<Index> items) {
    if (items.size() < 2) return absl::OkStatus();
    const size_t rank = boxes_[items[0]].rank();
    size_t log = 1;
    while ((items.size() >> log) > 0) ++log;
    work_left_ = 100000 + items.size() * (2 * rank * rank + 4 * log);
    Box everywhere;
    everywhere.offset.assign(rank, 0);
    everywhere.extent.assign(rank, std::numeric_limits<uint64_t>::max());
    pending_.push_back({std::move(items), std::move(everywhere)});
    while (!pending_.empty() && !overlap_) {
      Group group = std::move(pending_.back());
      pending_.pop_back();
      if (!Examine(std::move(group))) {
        return absl::ResourceExhaustedError(
            "boxes are cut too irregularly to be checked for overlaps");
      }
    }
    return overlap_ ? OverlapError(boxes_, overlap_->a, overlap_->b) : absl::OkStatus();
  }

 private:
  Interval Clipped(Index i, size_t d, const Box& region) const {
    const Box& box = boxes_[i];
    const uint64_t region_end = region.offset[d] + region.extent[d];
    return {std::max(box.offset[d], region.offset[d]),
            std::min(box.offset[d] + box.extent[d], region_end), i};
  }

  std::vector<Interval> Sorted(const Group& group, size_t d) const {
    std::vector<Interval> intervals;
    intervals.reserve(group.items.size());
    for (const Index i : group.items) intervals.push_back(Clipped(i, d, group.region));
    auto less = [](const Interval& a, const Interval& b) { return a.begin < b.begin; };
    if (!std::is_sorted(intervals.begin(), intervals.end(), less)) {
      std::sort(intervals.begin(), intervals.end(), less);
    }
    return intervals;
  }

  // False when the work has become too much.
  bool Examine(Group group) {
    const size_t n = group.items.size();
    if (n < 2) return true;
    const size_t cost = n <= kSmall ? n * n : n * (1 + group.region.rank());
    if (cost > work_left_) return false;
    work_left_ -= cost;
    if (n <= kSmall) {
      ExaminePairs(group.items);
      return true;
    }
    absl::InlinedVector<size_t, 8> differing;
    for (size_t d = 0; d < group.region.rank(); ++d) {
      const Interval first = Clipped(group.items[0], d, group.region);
      for (const Index i : group.items) {
        const Interval other = Clipped(i, d, group.region);
        if (other.begin != first.begin || other.end != first.end) {
          differing.push_back(d);
          break;
        }
      }
    }
    if (differing.empty()) {
      overlap_ = Overlap{group.items[0], group.items[1]};
    } else if (differing.size() == 1) {
      ExamineLine(Sorted(group, differing[0]));
    } else if (differing.size() == 2) {
      ExaminePlane(group, differing[0], differing[1]);
    } else if (!Separate(group, differing)) {
      Cut(group, differing);
    }
    return true;
  }

  void ExaminePairs(absl::Span<const Index> items) {
    for (size_t i = 0; i < items.size(); ++i) {
      for (size_t j = i + 1; j < items.size(); ++j) {
        if (Meet(boxes_[items[i]], boxes_[items[j]])) {
          overlap_ = Overlap{items[i], items[j]};
          return;
        }
      }
    }
  }

  void ExamineLine(const std::vector<Interval>& sorted) {
    for (size_t i = 1; i < sorted.size(); ++i) {
      if (sorted[i - 1].end > sorted[i].begin) {
        overlap_ = Overlap{sorted[i - 1].box, sorted[i].box};
        return;
      }
    }
  }

  void ExaminePlane(const Group& group, size_t sweep, size_t other) {
    const std::vector<Interval> openings = Sorted(group, sweep);
    std::vector<Interval> closings = openings;
    std::sort(closings.begin(), closings.end(),
              [](const Interval& a, const Interval& b) { return a.end < b.end; });
    std::map<uint64_t, Interval> open;  // by begin in `other`; disjoint there
    size_t closed = 0;
    for (const Interval& opening : openings) {
      for (; closings[closed].end <= opening.begin; ++closed) {
        open.erase(Clipped(closings[closed].box, other, group.region).begin);
      }
      const Interval here = Clipped(opening.box, other, group.region);
      const auto next = open.lower_bound(here.begin);
      if (next != open.end() && next->second.begin < here.end) {
        overlap_ = Overlap{next->second.box, here.box};
        return;
      }
      if (next != open.begin()) {
        const Interval& before = std::prev(next)->second;
        if (before.end > here.begin) {
          overlap_ = Overlap{before.box, here.box};
          return;
        }
      }
      open.emplace_hint(next, here.begin, here);
    }
  }

  // Splits the group along the first dimension where planes pass between its boxes.
  bool Separate(const Group& group, absl::Span<const size_t> dimensions) {
    for (const size_t d : dimensions) {
      const std::vector<Interval> sorted = Sorted(group, d);
      uint64_t end = sorted[0].end;
      bool apart = false;
      for (const Interval& interval : sorted) {
        apart |= interval.begin >= end;
        end = std::max(end, interval.end);
      }
      if (!apart) continue;
      Group part{{}, group.region};
      end = sorted[0].end;
      for (const Interval& interval : sorted) {
        if (interval.begin >= end) {
          if (part.items.size() > 1) pending_.push_back(std::move(part));
          part = Group{{}, group.region};
        }
        part.items.push_back(interval.box);
        end = std::max(end, interval.end);
      }
      if (part.items.size() > 1) pending_.push_back(std::move(part));
      return true;
    }
    return false;
  }

  // Divides the region at the face, of the middle ones of each dimension, that crosses fewest
  // boxes.
  void Cut(const Group& group, absl::Span<const size_t> dimensions) {
    size_t best_count = std::numeric_limits<size_t>::max();
    size_t best_dimension = 0;
    uint64_t best_face = 0;
    for (const size_t d : dimensions) {
      std::vector<uint64_t> faces;
      uint64_t low = std::numeric_limits<uint64_t>::max(), high = 0;
      for (const Index i : group.items) {
        const Interval interval = Clipped(i, d, group.region);
        low = std::min(low, interval.begin);
        high = std::max(high, interval.end);
      }
      for (const Index i : group.items) {
        const Interval interval = Clipped(i, d, group.region);
        if (interval.begin > low) faces.push_back(interval.begin);
        if (interval.end < high) faces.push_back(interval.end);
      }
      // The boxes differ in this dimension, so some face lies inside.
      const auto middle = faces.begin() + static_cast<ptrdiff_t>(faces.size() / 2);
      std::nth_element(faces.begin(), middle, faces.end());
      size_t left = 0, right = 0;
      for (const Index i : group.items) {
        const Interval interval = Clipped(i, d, group.region);
        left += interval.begin < *middle ? 1 : 0;
        right += interval.end > *middle ? 1 : 0;
      }
      const size_t count = std::max(left, right);
      if (count < best_count) {
        best_count = count;
        best_dimension = d;
        best_face = *middle;
      }
    }
    Group left{{}, group.region}, right{{}, group.region};
    const uint64_t end = group.region.offset[best_dimension] + group.region.extent[best_dimension];
    left.region.extent[best_dimension] = best_face - group.region.offset[best_dimension];
    right.region.offset[best_dimension] = best_face;
    right.region.extent[best_dimension] = end - best_face;
    for (const Index i : group.items) {
      const Interval interval = Clipped(i, best_dimension, group.region);
      if (interval.begin < best_face) left.items.push_back(i);
      if (interval.end > best_face) right.items.push_back(i);
    }
    pending_.push_back(std::move(left));
    pending_.push_back(std::move(right));
  }

  absl::Span<const Box> boxes_;
  std::vector<Group> pending_;
  std::optional<Overlap> overlap_;
  size_t work_left_ = 0;
};

absl::Status CheckWellFormed(absl::Span<const Box> boxes, const Box* cover) {
  if (boxes.size() > std::numeric_limits<Index>::max()) {
    return absl::ResourceExhaustedError("too many boxes");
  }
  const size_t rank = cover != nullptr ? cover->rank() : boxes.empty() ? 0 : boxes[0].rank();
  for (size_t i = 0; i < boxes.size(); ++i) {
    const Box& box = boxes[i];
    if (box.extent.size() != rank || box.offset.size() != rank) {
      return absl::FailedPreconditionError(absl::StrCat("box ", i, " has ", box.extent.size(),
                                                        " dimensions where others have ", rank));
    }
    for (size_t d = 0; d < rank; ++d) {
      if (box.offset[d] > std::numeric_limits<uint64_t>::max() - box.extent[d]) {
        return absl::FailedPreconditionError(absl::StrCat("box ", i, " is too far out"));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckTiling(absl::Span<const Box> boxes, const Box* cover) {
  if (absl::Status status = CheckWellFormed(boxes, cover); !status.ok()) return status;
  unsigned __int128 elements = 0;
  for (size_t i = 0; cover != nullptr && i < boxes.size(); ++i) {
    elements += boxes[i].volume();
    if (!boxes[i].empty() && !Contains(*cover, boxes[i])) {
      return absl::FailedPreconditionError(
          absl::StrCat("box ", i, " ", boxes[i].ToString(), " leaves ", cover->ToString()));
    }
  }
  absl::Status disjoint;
  if (boxes.size() <= kSmall) {
    disjoint = CheckPairs(boxes);
  } else {
    std::vector<Index> items;
    items.reserve(boxes.size());
    for (size_t i = 0; i < boxes.size(); ++i) {
      if (!boxes[i].empty()) items.push_back(static_cast<Index>(i));
    }
    disjoint = DisjointCheck(boxes).Run(std::move(items));
  }
  if (!disjoint.ok()) return disjoint;
  if (cover != nullptr && elements != cover->volume()) {
    // Disjoint and inside the cover: they are fewer.
    return absl::FailedPreconditionError(
        absl::StrCat("boxes cover ", static_cast<uint64_t>(elements), " of the ", cover->volume(),
                     " elements of ", cover->ToString()));
  }
  return absl::OkStatus();
}

}  // namespace ckpt
