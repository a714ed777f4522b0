// The hashes that a trainer took of its own memory, against those of what went to disk.
#ifndef CKPT_SERVER_PERSIST_SOURCE_HASHES_H_
#define CKPT_SERVER_PERSIST_SOURCE_HASHES_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "common/layout.h"

namespace ckpt {

// Both: one hash for each block of `layout`, as in PartManifest.block_hashes. DATA_LOSS names key,
// box, block and both hashes of the first that differs, and how many do.
absl::Status CompareSourceHashes(const PartLayout& layout, absl::Span<const uint64_t> source,
                                 absl::Span<const uint64_t> persisted);

}  // namespace ckpt

#endif  // CKPT_SERVER_PERSIST_SOURCE_HASHES_H_
