// Every limit that both sides keep, as typed constants. The numbers stand in
// proto/ckpt/v1/limits.proto; here they get their types and the relations that must hold between
// them.
#ifndef CKPT_COMMON_LIMITS_H_
#define CKPT_COMMON_LIMITS_H_

#include <cstddef>
#include <cstdint>

#include "ckpt/v1/limits.pb.h"

namespace ckpt {

inline constexpr size_t kRunBytesMax = v1::LIMIT_RUN_BYTES_MAX;
inline constexpr size_t kChunkBytesMax = v1::LIMIT_CHUNK_BYTES_MAX;
inline constexpr size_t kMessageBytesMax = v1::LIMIT_MESSAGE_BYTES_MAX;
inline constexpr size_t kSessionFrameBytesMax = v1::LIMIT_SESSION_FRAME_BYTES_MAX;
inline constexpr size_t kLayoutBytesMax = v1::LIMIT_LAYOUT_BYTES_MAX;
inline constexpr size_t kValuesBytesMax = v1::LIMIT_VALUES_BYTES_MAX;
inline constexpr size_t kSourceHashesBytesMax = v1::LIMIT_SOURCE_HASHES_BYTES_MAX;
inline constexpr size_t kValueInlineBytesMax = v1::LIMIT_VALUE_INLINE_BYTES_MAX;
inline constexpr size_t kKeyBytesMax = v1::LIMIT_KEY_BYTES_MAX;
inline constexpr size_t kKeySegmentsMax = v1::LIMIT_KEY_SEGMENTS_MAX;
inline constexpr size_t kDimensionsMax = v1::LIMIT_DIMENSIONS_MAX;
inline constexpr size_t kShardsPerPartMax = v1::LIMIT_SHARDS_PER_PART_MAX;
inline constexpr size_t kLeavesPerPartMax = v1::LIMIT_LEAVES_PER_PART_MAX;
inline constexpr uint32_t kWorldSizeMax = v1::LIMIT_WORLD_SIZE_MAX;
inline constexpr uint64_t kHeaderBytesMax = v1::LIMIT_HEADER_BYTES_MAX;
inline constexpr uint64_t kHashBlockBytes = v1::LIMIT_HASH_BLOCK_BYTES;
inline constexpr uint64_t kDataAlignmentBytes = v1::LIMIT_DATA_ALIGNMENT_BYTES;
inline constexpr uint32_t kPageItemsMax = v1::LIMIT_PAGE_ITEMS_MAX;
inline constexpr uint32_t kPageItemsDefault = 100;
inline constexpr size_t kTagBytesMax = v1::LIMIT_TAG_BYTES_MAX;
inline constexpr size_t kTagsPerCheckpointMax = v1::LIMIT_TAGS_PER_CHECKPOINT_MAX;
inline constexpr size_t kMetricNameBytesMax = v1::LIMIT_METRIC_NAME_BYTES_MAX;
inline constexpr size_t kMetricsPerCheckpointMax = v1::LIMIT_METRICS_PER_CHECKPOINT_MAX;
inline constexpr size_t kNoteBytesMax = v1::LIMIT_NOTE_BYTES_MAX;
inline constexpr size_t kRetentionPoliciesMax = v1::LIMIT_RETENTION_POLICIES_MAX;
inline constexpr size_t kErrorBytesMax = v1::LIMIT_ERROR_BYTES_MAX;
inline constexpr uint64_t kStepMax = (uint64_t{1} << 63) - 1;
inline constexpr uint64_t kPartBytesMax = uint64_t{1} << 50;  // offsets never overflow 64-bit sums

static_assert(kChunkBytesMax * 2 <= kMessageBytesMax,
              "a chunk and its envelope fit in one message");
static_assert(kHashBlockBytes % kDataAlignmentBytes == 0);
static_assert(kHeaderBytesMax % kDataAlignmentBytes == 0);
static_assert(kErrorBytesMax < 8192, "gRPC loses the real error above 8 KiB");

}  // namespace ckpt

#endif  // CKPT_COMMON_LIMITS_H_
