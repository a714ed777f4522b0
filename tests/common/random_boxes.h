// Random boxes and tilings for property tests, from a seed that a failure prints.
#ifndef CKPT_TESTS_COMMON_RANDOM_BOXES_H_
#define CKPT_TESTS_COMMON_RANDOM_BOXES_H_

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/box.h"

namespace ckpt {

class RandomBoxes {
 public:
  explicit RandomBoxes(uint64_t seed) : random_(seed) {}

  uint64_t Number(uint64_t low, uint64_t high) {
    return std::uniform_int_distribution<uint64_t>(low, high)(random_);
  }

  Extents Shape(size_t rank, uint64_t extent_max) {
    Extents shape;
    for (size_t d = 0; d < rank; ++d) shape.push_back(Number(1, extent_max));
    return shape;
  }

  // A box inside `shape`, never empty.
  Box Inside(const Extents& shape) {
    Box box;
    for (const uint64_t extent : shape) {
      const uint64_t offset = Number(0, extent - 1);
      box.offset.push_back(offset);
      box.extent.push_back(Number(1, extent - offset));
    }
    return box;
  }

  // Cuts `whole` in two at random, again and again, until there are `count` boxes or nothing is
  // left to cut; in random order.
  std::vector<Box> Tiling(const Box& whole, size_t count) {
    std::vector<Box> boxes = {whole};
    for (size_t tries = 0; boxes.size() < count && tries < 20 * count; ++tries) {
      const size_t i = Number(0, boxes.size() - 1);
      const size_t d = Number(0, whole.rank() - 1);
      if (boxes[i].extent[d] < 2) continue;
      const uint64_t cut = Number(1, boxes[i].extent[d] - 1);
      Box rest = boxes[i];
      rest.offset[d] += cut;
      rest.extent[d] -= cut;
      boxes[i].extent[d] = cut;
      boxes.push_back(rest);
    }
    std::shuffle(boxes.begin(), boxes.end(), random_);
    return boxes;
  }

  std::mt19937_64& generator() { return random_; }

 private:
  std::mt19937_64 random_;
};

// Disjoint, inside `whole`, and of as many elements.
inline absl::Status CheckTiling(const std::vector<Box>& boxes, const Box& whole) {
  uint64_t elements = 0;
  for (const Box& box : boxes) {
    if (!box.empty() && !Contains(whole, box)) {
      return absl::FailedPreconditionError(absl::StrCat(box.ToString(), " leaves the whole"));
    }
    elements += box.volume();
  }
  if (elements != whole.volume()) {
    return absl::FailedPreconditionError(
        absl::StrCat(elements, " of ", whole.volume(), " elements"));
  }
  return CheckDisjoint(boxes);
}

}  // namespace ckpt

#endif  // CKPT_TESTS_COMMON_RANDOM_BOXES_H_
