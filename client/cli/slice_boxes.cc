#include "client/cli/slice_boxes.h"

#include "common/key.h"

namespace ckpt::cli {

SliceBoxes::SliceBoxes(const v1::Selection& selection) {
  for (const v1::Selection::Slice& slice : selection.slices()) {
    boxes_.emplace(PrintKey(slice.key()), Box::FromProto(slice.box()));
  }
}

const Box* SliceBoxes::Of(const v1::Leaf& leaf) const {
  if (boxes_.empty()) return nullptr;
  const auto found = boxes_.find(PrintKey(leaf.key()));
  return found == boxes_.end() ? nullptr : &found->second;
}

}  // namespace ckpt::cli
