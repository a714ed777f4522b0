// CheckDisjoint: do any two boxes overlap?
//
// Dimensions in which all boxes of a group are the same tell nothing. By the number of the others:
//   - one: sort, compare neighbours;
//   - two: sweep along one, keep those that are open in an ordered map along the other;
//   - more: separate the group where a plane passes between its boxes, if that takes it well
//     apart, or for the first few times (grids fall to pieces, and those that are grids but for
//     some slabs); what stays together is searched by segment trees, one dimension after the other:
//     of two intervals that meet, one holds the begin of the other. This is the streamed segment
//     tree of Zomorodian and Edelsbrunner, "Fast software for box intersections" (2000), which ends
//     at the first hit: O(n log^d n) for d dimensions.
// Boxes may come from anybody, and be made to be hard: work is counted, and has a bound.
#include <algorithm>
#include <limits>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/box.h"

namespace ckpt {
namespace {

using Index = uint32_t;
using Dimensions = absl::InlinedVector<size_t, 8>;

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

absl::Status OverlapError(absl::Span<const Box> boxes, Overlap overlap) {
  const auto [low, high] = std::minmax(overlap.a, overlap.b);
  return absl::FailedPreconditionError(absl::StrCat("boxes ", low, " and ", high,
                                                    " overlap: ", boxes[low].ToString(), " and ",
                                                    boxes[high].ToString()));
}

// Pairs are compared one by one where there are no more than this: most tensors of most
// checkpoints.
constexpr size_t kPairsMax = 64;

// Of looking at one dimension of one box, which takes some nanoseconds.
constexpr uint64_t kWorkMin = 10'000'000;
constexpr uint64_t kWorkFactor = 40;  // of n log^2 n
constexpr uint64_t kWorkMax = 2'000'000'000;

uint64_t Log(size_t n) {
  uint64_t log = 1;
  while ((n >> log) > 0) ++log;
  return log;
}

// Overlaps are looked for among the boxes of a group, or between those of two.
class Search {
 public:
  explicit Search(absl::Span<const Box> boxes) : boxes_(boxes) {}

  absl::Status Run(std::vector<Index> all) {
    const uint64_t log = Log(all.size());
    work_left_ = std::min(kWorkMax, kWorkMin + kWorkFactor * all.size() * log * log);
    const auto peels = static_cast<uint32_t>(2 * log);
    groups_.push_back({std::move(all), peels});
    while (!groups_.empty() && !Over()) {
      const Group group = std::move(groups_.back());
      groups_.pop_back();
      Examine(group);
    }
    if (overlap_) return OverlapError(boxes_, *overlap_);
    if (!Over()) return absl::OkStatus();
    return absl::ResourceExhaustedError(
        "boxes are cut too irregularly, in three or more dimensions, to be checked for overlaps");
  }

 private:
  // A box among the begins of others, which are sorted: it holds those of [first, last).
  struct Range {
    Index box;
    Index first;
    Index last;
  };

  struct Group {
    std::vector<Index> boxes;
    uint32_t peels;  // separations left to it that hardly make it smaller
  };

  bool Over() const { return overlap_.has_value() || work_left_ == 0; }

  void Spend(uint64_t work) { work_left_ -= std::min(work, work_left_); }

  uint64_t Begin(Index i, size_t d) const { return boxes_[i].offset[d]; }
  uint64_t End(Index i, size_t d) const { return boxes_[i].offset[d] + boxes_[i].extent[d]; }

  void SortByBegin(std::vector<Index>& items, size_t d) {
    const auto less = [&](Index a, Index b) { return Begin(a, d) < Begin(b, d); };
    Spend(items.size());
    if (std::is_sorted(items.begin(), items.end(), less)) return;
    Spend(items.size() * Log(items.size()));
    std::sort(items.begin(), items.end(), less);
  }

  void Examine(const Group& group) {
    const std::vector<Index>& boxes = group.boxes;
    const size_t n = boxes.size();
    if (n < 2) return;
    if (n * n / 2 <= kPairsMax) return ExaminePairs(boxes);
    const Dimensions differing = Differing(boxes);
    if (differing.empty()) {
      overlap_ = Overlap{boxes[0], boxes[1]};
    } else if (differing.size() == 1) {
      ExamineLine(boxes, differing[0]);
    } else if (differing.size() == 2) {
      ExaminePlane(boxes, differing[0], differing[1]);
    } else if (!Separate(group, differing)) {
      ExamineTree(boxes, differing);
    }
  }

  Dimensions Differing(const std::vector<Index>& group) {
    const size_t rank = boxes_[group[0]].rank();
    Spend(group.size() * rank);
    Dimensions differing;
    for (size_t d = 0; d < rank; ++d) {
      const bool same = std::all_of(group.begin(), group.end(), [&](Index i) {
        return Begin(i, d) == Begin(group[0], d) && End(i, d) == End(group[0], d);
      });
      if (!same) differing.push_back(d);
    }
    return differing;
  }

  void ExaminePairs(const std::vector<Index>& group) {
    Spend(group.size() * group.size());
    for (size_t i = 0; i < group.size(); ++i) {
      for (size_t j = i + 1; j < group.size(); ++j) {
        if (!Meet(boxes_[group[i]], boxes_[group[j]])) continue;
        overlap_ = Overlap{group[i], group[j]};
        return;
      }
    }
  }

  void ExamineLine(std::vector<Index> group, size_t d) {
    SortByBegin(group, d);
    for (size_t i = 1; i < group.size(); ++i) {
      if (End(group[i - 1], d) <= Begin(group[i], d)) continue;
      overlap_ = Overlap{group[i - 1], group[i]};
      return;
    }
  }

  void ExaminePlane(std::vector<Index> group, size_t sweep, size_t other) {
    SortByBegin(group, sweep);
    std::vector<Index> closings = group;
    Spend(2 * group.size() * Log(group.size()));
    std::sort(closings.begin(), closings.end(),
              [&](Index a, Index b) { return End(a, sweep) < End(b, sweep); });
    std::map<uint64_t, Index> open;  // by begin in `other`; disjoint there
    size_t closed = 0;
    for (const Index here : group) {
      for (; End(closings[closed], sweep) <= Begin(here, sweep); ++closed) {
        open.erase(Begin(closings[closed], other));
      }
      const auto next = open.lower_bound(Begin(here, other));
      if (next != open.end() && next->first < End(here, other)) {
        overlap_ = Overlap{next->second, here};
        return;
      }
      if (next != open.begin() && End(std::prev(next)->second, other) > Begin(here, other)) {
        overlap_ = Overlap{std::prev(next)->second, here};
        return;
      }
      open.emplace_hint(next, Begin(here, other), here);
    }
  }

  // Takes the group apart along the dimension where the planes that pass between its boxes leave
  // the fewest of them together; where more than three quarters stay, only so many times.
  bool Separate(const Group& group, const Dimensions& dimensions) {
    const size_t enough = group.boxes.size() / 4 * 3;
    std::vector<Index> best;
    std::vector<size_t> best_cuts;
    size_t best_most = group.boxes.size();
    std::vector<Index> boxes = group.boxes;
    for (const size_t d : dimensions) {
      SortByBegin(boxes, d);
      std::vector<size_t> cuts = {0};
      size_t most = 0;
      uint64_t end = End(boxes[0], d);
      for (size_t i = 1; i <= boxes.size(); ++i) {
        if (i < boxes.size() && Begin(boxes[i], d) < end) {
          end = std::max(end, End(boxes[i], d));
          continue;
        }
        most = std::max(most, i - cuts.back());
        cuts.push_back(i);
        if (i < boxes.size()) end = End(boxes[i], d);
      }
      if (most >= best_most) continue;
      best = boxes;
      best_cuts = std::move(cuts);
      best_most = most;
      if (most <= enough) break;
    }
    if (best.empty() || (best_most > enough && group.peels == 0)) return false;
    const uint32_t peels = best_most > enough ? group.peels - 1 : group.peels;
    for (size_t c = 1; c < best_cuts.size(); ++c) {
      if (best_cuts[c] - best_cuts[c - 1] < 2) continue;
      groups_.push_back({{best.begin() + static_cast<ptrdiff_t>(best_cuts[c - 1]),
                          best.begin() + static_cast<ptrdiff_t>(best_cuts[c])},
                         peels});
    }
    return true;
  }

  // Each pair is looked for at the begin that comes later in the last of the dimensions.
  void ExamineTree(std::vector<Index> group, const Dimensions& dimensions) {
    const size_t d = dimensions.back();
    SortByBegin(group, d);
    std::vector<Range> ranges;
    for (Index i = 0; i < group.size(); ++i) {
      ranges.push_back({group[i], i + 1, CountBelow(group, d, End(group[i], d))});
    }
    Descend(std::move(ranges), group, 0, static_cast<Index>(group.size()),
            absl::MakeConstSpan(dimensions).first(dimensions.size() - 1));
  }

  // Between two groups that share no box, and of which each two boxes meet in all dimensions but
  // these.
  void Cross(std::vector<Index> a, std::vector<Index> b, absl::Span<const size_t> dimensions) {
    for (const size_t d : dimensions) {  // what reaches none of the other group is out
      KeepWithin(a, Hull(b, d), d);
      KeepWithin(b, Hull(a, d), d);
    }
    if (a.empty() || b.empty() || Over()) return;
    if (a.size() * b.size() <= kPairsMax) {
      CrossPairs(a, b);
    } else if (dimensions.size() == 1) {
      CrossLine(a, b, dimensions[0]);
    } else {
      CrossTree(a, b, dimensions);
      CrossTree(b, a, dimensions);
    }
  }

  // From the first begin to the last end of a group; empty for an empty one.
  std::pair<uint64_t, uint64_t> Hull(const std::vector<Index>& group, size_t d) {
    Spend(2 * group.size());  // and for KeepWithin
    std::pair<uint64_t, uint64_t> hull = {std::numeric_limits<uint64_t>::max(), 0};
    for (const Index i : group) {
      hull = {std::min(hull.first, Begin(i, d)), std::max(hull.second, End(i, d))};
    }
    return hull;
  }

  void KeepWithin(std::vector<Index>& group, std::pair<uint64_t, uint64_t> hull, size_t d) const {
    std::erase_if(group,
                  [&](Index i) { return Begin(i, d) >= hull.second || End(i, d) <= hull.first; });
  }

  void CrossPairs(const std::vector<Index>& a, const std::vector<Index>& b) {
    Spend(a.size() * b.size());
    for (const Index i : a) {
      for (const Index j : b) {
        if (!Meet(boxes_[i], boxes_[j])) continue;
        overlap_ = Overlap{i, j};
        return;
      }
    }
  }

  void CrossLine(std::vector<Index> a, std::vector<Index> b, size_t d) {
    SortByBegin(a, d);
    SortByBegin(b, d);
    size_t i = 0, j = 0;
    while (i < a.size() && j < b.size()) {
      if (End(a[i], d) <= Begin(b[j], d)) {
        ++i;
      } else if (End(b[j], d) <= Begin(a[i], d)) {
        ++j;
      } else {
        overlap_ = Overlap{a[i], b[j]};
        return;
      }
    }
  }

  // The pairs whose begin in the last dimension is that of the box of `begins`.
  void CrossTree(const std::vector<Index>& holders, std::vector<Index> begins,
                 absl::Span<const size_t> dimensions) {
    const size_t d = dimensions.back();
    SortByBegin(begins, d);
    Spend(holders.size() * Log(begins.size()));
    std::vector<Range> ranges;
    for (const Index i : holders) {
      ranges.push_back({i, CountBelow(begins, d, Begin(i, d)), CountBelow(begins, d, End(i, d))});
    }
    const auto last = static_cast<Index>(begins.size());
    Descend(std::move(ranges), begins, 0, last, dimensions.first(dimensions.size() - 1));
  }

  Index CountBelow(const std::vector<Index>& begins, size_t d, uint64_t bound) const {
    const auto it = std::lower_bound(begins.begin(), begins.end(), bound,
                                     [&](Index i, uint64_t at) { return Begin(i, d) < at; });
    return static_cast<Index>(it - begins.begin());
  }

  // A node of the segment tree over `begins`: those of [first, last).
  void Descend(std::vector<Range> ranges, const std::vector<Index>& begins, Index first, Index last,
               absl::Span<const size_t> dimensions) {
    if (Over()) return;
    Spend(ranges.size());
    std::vector<Index> spanning;
    std::vector<Range> left, right;
    const Index middle = first + (last - first) / 2;
    for (const Range& range : ranges) {
      if (range.first >= last || range.last <= first || range.first >= range.last) continue;
      if (range.first <= first && range.last >= last) {
        spanning.push_back(range.box);
      } else {
        if (range.first < middle) left.push_back(range);
        if (range.last > middle) right.push_back(range);
      }
    }
    ranges = {};
    if (!spanning.empty()) {
      Cross(std::move(spanning), {begins.begin() + first, begins.begin() + last}, dimensions);
    }
    if (!left.empty()) Descend(std::move(left), begins, first, middle, dimensions);
    if (!right.empty()) Descend(std::move(right), begins, middle, last, dimensions);
  }

  absl::Span<const Box> boxes_;
  std::vector<Group> groups_;  // yet to be examined
  std::optional<Overlap> overlap_;
  uint64_t work_left_ = 0;
};

absl::Status CheckWellFormed(absl::Span<const Box> boxes) {
  if (boxes.size() > std::numeric_limits<Index>::max()) {
    return absl::ResourceExhaustedError("too many boxes");
  }
  const size_t rank = boxes.empty() ? 0 : boxes[0].rank();
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

absl::Status CheckDisjoint(absl::Span<const Box> boxes) {
  if (absl::Status status = CheckWellFormed(boxes); !status.ok()) return status;
  std::vector<Index> all;
  all.reserve(boxes.size());
  for (size_t i = 0; i < boxes.size(); ++i) {
    if (!boxes[i].empty()) all.push_back(static_cast<Index>(i));
  }
  return Search(boxes).Run(std::move(all));
}

}  // namespace ckpt
