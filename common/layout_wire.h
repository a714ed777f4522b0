// A serialized layout, read and written without Protobuf's objects: a few bytes on the wire can
// become hundreds there, a layout may have a million leaves, and layouts come from anybody.
//
// One layout has one form, and so one digest: fields in ascending order, each at most once, numbers
// in the fewest bytes and packed, nothing that is at its default, nothing unknown. It is what
// Protobuf writes (https://protobuf.dev/programming-guides/encoding).
#ifndef CKPT_COMMON_LAYOUT_WIRE_H_
#define CKPT_COMMON_LAYOUT_WIRE_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/leaf_table.h"
#include "common/limits.h"

namespace ckpt::internal {

// Of a leaf's message: the longest key, its segments, a shape.
inline constexpr size_t kLeafWireBytesMax = 16384;

absl::Status BadLayout(absl::string_view where, absl::string_view why);
absl::Status TooLarge(size_t layout_bytes);

struct LayoutCounts {
  size_t leaves = 0;
  size_t shards = 0;
  size_t leaf_bytes = 0;
};
// A first look: INVALID_ARGUMENT past the limits of limits.h, or where it is no layout's wire form.
absl::Status CountLayout(absl::string_view serialized, LayoutCounts& counts);

// After CountLayout. Calls with each leaf's message, and after them with each shard's: where it
// lies in `serialized`. `replicated_digest` may be empty.
absl::Status ForEachOfLayout(
    absl::string_view serialized,
    absl::FunctionRef<absl::Status(size_t begin, size_t bytes)> leaf,
    absl::FunctionRef<absl::Status(absl::string_view message)> shard,
    absl::string_view& replicated_digest);

// As it stands there: enumerations and indices may be anything.
struct WireLeaf {
  absl::string_view key;
  uint64_t kind = 0;
  uint64_t placement = 0;
  uint64_t dtype = 0;
  uint32_t alias_of_plus_one = 0;
  size_t dimensions = 0;
  uint64_t shape[kDimensionsMax];
};
// `number`: which it is, for errors.
absl::Status ReadLeaf(size_t number, absl::string_view message, WireLeaf& leaf);

struct WireShard {
  uint32_t leaf = 0;
  size_t offsets = 0;
  size_t extents = 0;
  uint64_t offset[kDimensionsMax];
  uint64_t extent[kDimensionsMax];
};
absl::Status ReadShard(size_t number, absl::string_view message, WireShard& shard);

// Append a field of v1::Layout. The bytes of the leaf's message, which are the last then.
size_t AppendLeaf(const LeafDeclaration& leaf, std::string& out);
void AppendShard(uint32_t leaf, absl::Span<const uint64_t> offset,
                 absl::Span<const uint64_t> extent, std::string& out);
void AppendReplicatedDigest(absl::string_view digest, std::string& out);

}  // namespace ckpt::internal

#endif  // CKPT_COMMON_LAYOUT_WIRE_H_
