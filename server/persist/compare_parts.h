// How much of a committed checkpoint its run's checkpoint before it held already: told by the
// hashes of the blocks, reading no data.
#ifndef CKPT_SERVER_PERSIST_COMPARE_PARTS_H_
#define CKPT_SERVER_PERSIST_COMPARE_PARTS_H_

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "server/index/index.h"

namespace ckpt {

struct PartsComparison {
  uint64_t step = 0;             // of the checkpoint before
  uint64_t identical_bytes = 0;  // of tensors, in blocks with equal hashes
  bool all = false;              // every byte, and there is one
  bool all_before = false;       // the one before was all identical to its own predecessor, too
};

// With the run's newest committed step below that of `record`. nullopt where there is none, or a
// rank is missing in one of them or has another layout. NOT_FOUND: one was deleted meanwhile.
absl::StatusOr<std::optional<PartsComparison>> CompareParts(Index* index,
                                                            const CheckpointRecord& record);

// That, recorded in the index and logged; a warning where a run goes on saving the same bytes.
// Whatever fails is only logged: the checkpoint is as good without.
void CompareWithPrevious(Index* index, const CheckpointRecord& record);

}  // namespace ckpt

#endif  // CKPT_SERVER_PERSIST_COMPARE_PARTS_H_
