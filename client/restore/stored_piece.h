// A piece of a plan as the client keeps it, checked and packed: a plan may have a million, and a
// message for each would be four times as large.
#ifndef CKPT_CLIENT_RESTORE_STORED_PIECE_H_
#define CKPT_CLIENT_RESTORE_STORED_PIECE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/container/inlined_vector.h"
#include "ckpt/v1/restore.pb.h"
#include "common/box.h"
#include "common/ids.h"
#include "common/key.h"

namespace ckpt {

// v1::Piece says what each number means.
struct StoredPiece {
  Box box;
  FileId file;       // none() where `unreadable` says why
  FileId disk_file;  // none() where there is no second copy
  uint64_t file_offset = 0;
  uint64_t disk_file_offset = 0;
  uint64_t length = 0;  // bytes
  uint64_t block_bytes = 0;
  uint64_t first_block = 0;
  absl::InlinedVector<uint64_t, 1> block_hashes;
  std::unique_ptr<const std::string> unreadable;  // mostly null
  uint32_t leaf_number = 0;
  uint32_t piece_number = 0;
  bool in_memory = false;  // tier
};

// For errors.
inline std::string KeyOf(absl::Span<const v1::PlannedLeaf> leaves, const StoredPiece& piece) {
  return PrintKey(leaves[piece.leaf_number].leaf().key());
}

}  // namespace ckpt

#endif  // CKPT_CLIENT_RESTORE_STORED_PIECE_H_
