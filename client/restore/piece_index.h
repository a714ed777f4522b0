// Which pieces of one leaf meet a region, without looking at each: a tree of bounding boxes, halved
// along the dimension in which the pieces spread most. Ten thousand shards that are read by ten
// thousand targets cost some hundred thousand comparisons, not a hundred million.
#ifndef CKPT_CLIENT_RESTORE_PIECE_INDEX_H_
#define CKPT_CLIENT_RESTORE_PIECE_INDEX_H_

#include <cstdint>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "client/restore/stored_piece.h"
#include "common/box.h"

namespace ckpt {

// Filled and built by one thread, then only read. `pieces` is always the plan's whole list, of
// which this holds the numbers of one leaf's.
class PieceIndex {
 public:
  void Add(uint32_t piece) { numbers_.push_back(piece); }

  // After the last Add. FAILED_PRECONDITION: two of the boxes overlap, so that nobody could say
  // whose bytes are right, nor by counting elements whether a region is covered.
  absl::Status Build(absl::Span<const StoredPiece> pieces);

  // `region` is not empty and lies in the leaf's shape.
  void ForEachMeeting(absl::Span<const StoredPiece> pieces, const Box& region,
                      absl::FunctionRef<void(uint32_t piece)> visit) const;

 private:
  // Holds numbers_[begin, end). Preorder: the first half's node follows its parent.
  struct Node {
    Box bounds;
    uint32_t begin = 0;
    uint32_t end = 0;
    uint32_t second = 0;  // node of the second half; 0: a leaf of the tree
  };
  uint32_t AddNode(absl::Span<const StoredPiece> pieces, uint32_t begin, uint32_t end);

  absl::InlinedVector<uint32_t, 4> numbers_;
  std::vector<Node> nodes_;  // none where the pieces are few
};

}  // namespace ckpt

#endif  // CKPT_CLIENT_RESTORE_PIECE_INDEX_H_
