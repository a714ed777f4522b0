#include "client/torch/selected_boxes.h"

#include "absl/strings/str_cat.h"
#include "common/key.h"

namespace ckpt {

SelectedBoxes::SelectedBoxes(const v1::Selection& selection) {
  for (const v1::Selection::Slice& slice : selection.slices()) {
    boxes_[PrintKey(slice.key())].push_back(Box::FromProto(slice.box()));
  }
}

absl::StatusOr<Box> SelectedBoxes::Of(const v1::Leaf& leaf) const {
  const Box whole =
      Box::Whole(absl::MakeConstSpan(leaf.shape().data(), static_cast<size_t>(leaf.shape_size())));
  if (boxes_.empty() || leaf.kind() != v1::LEAF_KIND_TENSOR) return whole;
  const auto found = boxes_.find(PrintKey(leaf.key()));
  if (found == boxes_.end()) return whole;
  if (found->second.size() == 1) return found->second[0];
  return absl::InvalidArgumentError(
      absl::StrCat("the selection has ", found->second.size(), " slices of it: one can be taken"));
}

}  // namespace ckpt
