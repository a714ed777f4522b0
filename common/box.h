// Box algebra: half-open, axis-aligned boxes of tensor elements. Any layout loads into any layout
// by intersecting boxes.
#ifndef CKPT_COMMON_BOX_H_
#define CKPT_COMMON_BOX_H_

#include <compare>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/container/inlined_vector.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "ckpt/v1/checkpoint.pb.h"

namespace ckpt {

using Extents = absl::InlinedVector<uint64_t, 5>;

struct Box {
  Extents offset;  // elements, one per dimension
  Extents extent;

  static Box Whole(absl::Span<const uint64_t> shape);
  static Box FromProto(const v1::Box& proto);  // unchecked: use ValidateBox
  void ToProto(v1::Box* proto) const;
  size_t rank() const { return extent.size(); }
  uint64_t volume() const;  // elements; 1 for 0 dimensions; 2^64-1 where it would overflow
  bool empty() const { return volume() == 0; }
  std::string ToString() const;  // [0:4, 8:16]
  friend bool operator==(const Box&, const Box&) = default;
  // By offset, then by extent.
  friend std::strong_ordering operator<=>(const Box& a, const Box& b);
};

// Elements of a shape; nullopt where the product passes 2^63.
std::optional<uint64_t> Volume(absl::Span<const uint64_t> shape);

// INVALID_ARGUMENT unless offset and extent have shape's rank and the box lies within the shape,
// without overflow.
absl::Status ValidateBox(const Box& box, absl::Span<const uint64_t> shape);

// nullopt where they do not meet (an empty box meets nothing). Both must have the same rank; two
// 0-dimensional boxes meet.
std::optional<Box> Intersect(const Box& a, const Box& b);
bool Contains(const Box& outer, const Box& inner);

// Calls `run(source_element, destination_element, elements)` for each maximal contiguous run of the
// elements of `region`, which lies in both `source` and `destination`, two dense row-major arrays
// of those boxes. Ascending source order. Element counts, not bytes.
void ForEachRun(const Box& region, const Box& source, const Box& destination,
                absl::FunctionRef<void(uint64_t source_element, uint64_t destination_element,
                                       uint64_t elements)>
                    run);

// OK when the boxes are pairwise disjoint; otherwise FAILED_PRECONDITION with the indices of two
// that overlap, as "boxes I and J overlap". They may come in any order and have gaps between them;
// empty ones count for nothing. O(n log n) where they differ in one or two dimensions, and for
// grids, with slabs of other widths too; else O(n log^d n) in the d dimensions in which they
// differ. RESOURCE_EXHAUSTED where that comes to more than 40 n log^2 n or to some ten seconds: for
// boxes made to be hard. Any of three dimensions pass up to 100,000 of them.
absl::Status CheckDisjoint(absl::Span<const Box> boxes);

}  // namespace ckpt

#endif  // CKPT_COMMON_BOX_H_
