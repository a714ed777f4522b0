// The header region of a part's data file, written piece by piece: that of a million shards is some
// hundred MiB, and goes straight into the buffers that the disk is written from.
#ifndef CKPT_COMMON_HEADER_REGION_H_
#define CKPT_COMMON_HEADER_REGION_H_

#include <cstdint>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "ckpt/v1/checkpoint.pb.h"
#include "common/checkpoint_id.h"
#include "common/layout.h"

namespace ckpt {

// What it says stands at MakeHeaderRegion (common/safetensors.h), which has it in one string.
class HeaderRegion {
 public:
  // `layout` must outlive it. Its size is counted here, without a byte of it being written.
  HeaderRegion(const PartLayout& layout, uint32_t file, const v1::Values& values,
               const CheckpointId& id, uint32_t rank, uint32_t world_size);

  uint64_t size() const { return size_; }  // a multiple of 4096 bytes

  // Writes all of it, in order: into what `next` gives, which is not empty as long as bytes are
  // missing; `filled` gets of each what was put there, from its beginning. The first error of
  // `next` ends it.
  absl::Status Write(absl::FunctionRef<absl::StatusOr<absl::Span<char>>()> next,
                     absl::FunctionRef<void(absl::Span<const char> piece)> filled) const;

 private:
  const PartLayout& layout_;
  const PartLayout::FilePlace& place_;
  std::string before_;  // JSON up to the notes, and between these and the tensors
  std::string between_;
  bool has_notes_ = false;
  uint64_t json_bytes_ = 0;  // with the length before it, without the padding behind it
  uint64_t size_ = 0;
};

}  // namespace ckpt

#endif  // CKPT_COMMON_HEADER_REGION_H_
