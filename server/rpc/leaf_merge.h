// The leaves of a whole checkpoint, merged over its parts: REPLICATED and SHARDED leaves once,
// PER_RANK leaves once for each rank; aliases resolved, the selection applied.
#ifndef CKPT_SERVER_RPC_LEAF_MERGE_H_
#define CKPT_SERVER_RPC_LEAF_MERGE_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ckpt/v1/restore.pb.h"
#include "common/box.h"
#include "common/filter.h"
#include "common/layout.h"

namespace ckpt {

// Add every part in rank order, then look. Keeps only what is selected, and the leaves that hold
// the bytes of selected aliases. Not thread-safe.
class LeafMerge {
 public:
  static constexpr uint32_t kNotNeeded = UINT32_MAX;

  // INVALID_ARGUMENT: a pattern, a key or a box.
  static absl::StatusOr<LeafMerge> Create(const v1::Selection& selection);

  // INVALID_ARGUMENT: a slice's box does not lie in its tensor.
  absl::Status Add(uint32_t rank, const PartLayout& layout, const v1::Values& values);
  // NOT_FOUND where a key that was named exactly (as a key or a slice) is not there; the text names
  // the nearest.
  absl::Status CheckNamedKeys() const;

  // leaf_number is the index.
  const std::vector<v1::PlannedLeaf>& leaves() const { return leaves_; }
  // Of the part added as number `part`: layout leaf -> leaf number, or kNotNeeded.
  const std::vector<uint32_t>& numbers(size_t part) const { return numbers_[part]; }

  // The boxes that are needed of a leaf's storage; whole: all of it.
  struct Need {
    bool whole = false;
    std::vector<Box> boxes;
  };
  const Need& need(uint32_t leaf_number) const { return needs_[leaf_number]; }

 private:
  explicit LeafMerge(LeafFilter filter) : filter_(std::move(filter)) {}
  uint32_t NumberOf(uint32_t rank, uint32_t position, const v1::Leaf& leaf,
                    const std::string& printed);

  LeafFilter filter_;
  absl::flat_hash_map<std::string, std::vector<Box>> slices_;  // by printed key
  std::vector<std::string> named_;                             // keys that must be there
  std::vector<v1::PlannedLeaf> leaves_;
  std::vector<Need> needs_;
  absl::flat_hash_map<std::string, uint32_t> shared_;  // printed key -> number, not PER_RANK
  absl::flat_hash_map<std::string, uint32_t> own_;     // the same, of the part at hand
  std::vector<std::vector<uint32_t>> numbers_;
  absl::flat_hash_set<std::string> seen_;  // all printed keys, kept only if some were named
};

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_LEAF_MERGE_H_
