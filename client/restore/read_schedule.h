// From "these regions into these buffers" to "these blocks of these files": which bytes must be
// read, each once, in the order they lie in, and where they go. Pure arithmetic; reads nothing.
#ifndef CKPT_CLIENT_RESTORE_READ_SCHEDULE_H_
#define CKPT_CLIENT_RESTORE_READ_SCHEDULE_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "ckpt/v1/restore.pb.h"
#include "client/restore/piece_index.h"
#include "client/restore/restore.h"
#include "client/restore/run_grid.h"
#include "client/restore/stored_piece.h"
#include "common/box.h"
#include "common/ids.h"

namespace ckpt {

// One piece's bytes that one target wants.
struct PieceCopy {
  uint32_t target = 0;
  RunGrid runs;  // from the piece's array to the target's
};

// Consecutive blocks of one piece: [begin, begin + bytes) of the shard. Begins and ends on block
// boundaries, or at the shard's end.
struct Extent {
  uint32_t piece = 0;
  uint64_t begin = 0;
  uint64_t bytes = 0;
  uint32_t first_copy = 0;  // into ReadSchedule::copies_of_extents
  uint32_t copy_count = 0;
  bool wanted_by_others = false;  // other ranks are likely to read the same bytes on this node
};

struct ReadSchedule {
  std::vector<PieceCopy> copies;
  std::vector<uint32_t> copies_of_extents;  // indices into `copies`: those that touch the extent
  std::vector<Extent> extents;              // by piece, ascending
  uint64_t bytes_asked = 0;
};

// A plan as schedules see it. Every piece is in the index of its leaf.
struct PlannedPieces {
  absl::Span<const v1::PlannedLeaf> leaves;
  absl::Span<const StoredPiece> pieces;
  absl::Span<const PieceIndex> pieces_of_leaf;
  uint32_t ranks_together = 1;  // of a launch, that restore by the same plan
  uint32_t ranks_saved = 0;     // that the checkpoint is of; 0: nobody knows
  bool per_rank_shared = false;  // as RestoreOptions
};

// INVALID_ARGUMENT, FAILED_PRECONDITION and DATA_LOSS as RestorePlan::Read before it reads; all
// problems are in one text. Work is in proportion to the targets, the pieces and blocks that they
// touch, times a logarithm.
absl::StatusOr<ReadSchedule> MakeReadSchedule(const PlannedPieces& plan,
                                              absl::Span<const ReadTarget> targets);

// INVALID_ARGUMENT: no such leaf, not a tensor, or the region leaves its shape.
absl::Status CheckRegion(absl::Span<const v1::PlannedLeaf> leaves, uint32_t leaf_number,
                         const Box& region);
// The plan must have brought the hash of every block of the piece's bytes [begin, end), which are
// not empty: FAILED_PRECONDITION where its selection left them out.
absl::Status CheckSelected(absl::Span<const v1::PlannedLeaf> leaves, const StoredPiece& piece,
                           uint64_t begin, uint64_t end);

// DATA_LOSS: the daemon has said that nothing of the piece can be read.
absl::Status CheckReadable(absl::Span<const v1::PlannedLeaf> leaves, const StoredPiece& piece);

// Extents that lie close together in one file and are read in one go.
struct Batch {
  FileId file;
  bool from_memory = false;
  uint64_t file_offset = 0;
  uint64_t bytes = 0;             // from the first extent to the end of the last, gaps included
  bool wanted_by_others = false;  // one of its extents is
  std::vector<uint32_t> extents;  // indices, ascending file offset
};

// `use_disk`: read the second copy of memory pieces. Grouped by file, ascending offset.
std::vector<Batch> MakeBatches(absl::Span<const StoredPiece> pieces,
                               absl::Span<const Extent> extents, absl::Span<const uint32_t> chosen,
                               bool use_disk);

// Where an extent's bytes begin in its file.
uint64_t FileOffset(const StoredPiece& piece, const Extent& extent, bool use_disk);

}  // namespace ckpt

#endif  // CKPT_CLIENT_RESTORE_READ_SCHEDULE_H_
