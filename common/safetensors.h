// The safetensors header (format: https://github.com/huggingface/safetensors#format): 8 bytes
// little-endian header size N, N bytes of JSON, data. We pad the JSON with spaces so that data
// begins on a 4096-byte boundary. Writing is from a layout; reading is of files that anybody may
// have made, so every field is checked.
#ifndef CKPT_COMMON_SAFETENSORS_H_
#define CKPT_COMMON_SAFETENSORS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "ckpt/v1/checkpoint.pb.h"
#include "common/box.h"
#include "common/checkpoint_id.h"
#include "common/layout.h"

namespace ckpt {

// The size field that a file begins with.
inline constexpr uint64_t kLengthPrefixBytes = 8;
// The name in a header that is no tensor's: texts by name, what the file says of itself.
inline constexpr char kSafetensorsMetadata[] = "__metadata__";

// The header region (length prefix, JSON, padding) of data file `file` of a part. __metadata__:
// format "ckptd", format_version, run, step, incarnation, rank, world_size, `shards` (JSON: global
// shape and box of every shard that isn't a whole tensor, by its name in the file), `values` (JSON,
// first file only, for human eyes: non-finite doubles and bytes as strings). A further box of one
// tensor in one file is named KEY#1, KEY#2...; a name that is taken is passed over.
std::string MakeHeaderRegion(const PartLayout& layout, uint32_t file, const v1::Values& values,
                             const CheckpointId& id, uint32_t rank, uint32_t world_size);

// Upper bound of MakeHeaderRegion's JSON for one shard: what PartLayout cuts files by.
uint64_t HeaderBytesBound(absl::Span<const uint64_t> shape, absl::string_view printed_key);

struct SafetensorsTensor {
  std::string name;
  DType dtype;
  Extents shape;
  uint64_t begin = 0;  // bytes from the start of the data region
  uint64_t end = 0;
};

struct SafetensorsHeader {
  uint64_t header_region_bytes = 0;  // data begins here
  std::map<std::string, std::string> metadata;
  std::vector<SafetensorsTensor> tensors;  // ascending begin
};

// Parses the first bytes of a file whose whole length is `file_bytes`. `region` must hold the
// length prefix and the JSON (its size is what SafetensorsRegionBytes says). Refuses,
// INVALID_ARGUMENT with the reason and the tensor's name: sizes past the file or
// LIMIT_HEADER_BYTES_MAX * 4, JSON that isn't one, duplicate names, unknown dtypes, offsets that
// overlap, leave holes, or disagree with the shape.
absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(absl::string_view region,
                                                         uint64_t file_bytes);

// Length of the header region from the file's first 8 bytes; INVALID_ARGUMENT when absurd.
absl::StatusOr<uint64_t> SafetensorsRegionBytes(absl::string_view first_eight_bytes,
                                                uint64_t file_bytes);

// A header region for a plain list of tensors (export): names, dtypes and shapes as given, offsets
// assigned in order, all without holes.
std::string MakePlainHeaderRegion(absl::Span<const SafetensorsTensor> tensors,
                                  const std::map<std::string, std::string>& metadata);

// A value as JSON for human eyes.
std::string ValueToJson(const v1::Value& value);

}  // namespace ckpt

#endif  // CKPT_COMMON_SAFETENSORS_H_
