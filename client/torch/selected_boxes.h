// The boxes that Selection.slices limit tensors to: who takes a tensor as it is selected gets the
// box, in the box's shape.
#ifndef CKPT_CLIENT_TORCH_SELECTED_BOXES_H_
#define CKPT_CLIENT_TORCH_SELECTED_BOXES_H_

#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "ckpt/v1/restore.pb.h"
#include "common/box.h"

namespace ckpt {

// Immutable once made.
class SelectedBoxes {
 public:
  SelectedBoxes() = default;
  explicit SelectedBoxes(const v1::Selection& selection);
  // All of a leaf that no slice names, and of what is no tensor. INVALID_ARGUMENT: several slices
  // name it, and a tensor is one box.
  absl::StatusOr<Box> Of(const v1::Leaf& leaf) const;

 private:
  absl::flat_hash_map<std::string, std::vector<Box>> boxes_;  // by printed key
};

}  // namespace ckpt

#endif  // CKPT_CLIENT_TORCH_SELECTED_BOXES_H_
