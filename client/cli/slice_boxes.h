// What --slice leaves of each tensor that it names.
#ifndef CKPT_CLIENT_CLI_SLICE_BOXES_H_
#define CKPT_CLIENT_CLI_SLICE_BOXES_H_

#include <string>

#include "absl/container/flat_hash_map.h"
#include "ckpt/v1/restore.pb.h"
#include "common/box.h"

namespace ckpt::cli {

// Immutable once made.
class SliceBoxes {
 public:
  SliceBoxes() = default;
  // Of SlicedSelectionOf: at most one slice of a key, and it lies in the tensor.
  explicit SliceBoxes(const v1::Selection& selection);
  // nullptr: all of the leaf. Lives as long as this does.
  const Box* Of(const v1::Leaf& leaf) const;

 private:
  absl::flat_hash_map<std::string, Box> boxes_;  // by printed key
};

}  // namespace ckpt::cli

#endif  // CKPT_CLIENT_CLI_SLICE_BOXES_H_
