// (run, step, incarnation): what a checkpoint is called, the rules for the names, and how people
// write it.
#ifndef CKPT_COMMON_CHECKPOINT_ID_H_
#define CKPT_COMMON_CHECKPOINT_ID_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "ckpt/v1/checkpoint.pb.h"
#include "ckpt/v1/restore.pb.h"
#include "common/ids.h"

namespace ckpt {

// 1-200 bytes of [A-Za-z0-9._-], segments split by '/', none of them empty, "." or "..".
// INVALID_ARGUMENT says what is wrong, with unprintable bytes escaped and long names shortened.
absl::Status ValidateRun(absl::string_view run);
absl::Status ValidateStep(uint64_t step);
// 1-100 bytes of [A-Za-z0-9._-], not all digits and not "latest" or "latest-valid" (RUN@TAG must
// stay readable).
absl::Status ValidateTag(absl::string_view tag);

struct CheckpointId {
  std::string run;
  uint64_t step = 0;
  Incarnation incarnation;

  static absl::StatusOr<CheckpointId> FromProto(const v1::CheckpointId& proto);
  v1::CheckpointId ToProto() const;
  std::string ToString() const;  // team/llama@1200 (incarnation 0192...: first 8 hex digits)
  friend auto operator<=>(const CheckpointId&, const CheckpointId&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const CheckpointId& id) {
    return H::combine(std::move(h), id.run, id.step, id.incarnation);
  }
};

// RUN@STEP, RUN@latest, RUN@latest-valid, RUN@TAG -> Selector. INVALID_ARGUMENT says what was
// expected.
absl::StatusOr<v1::Selector> ParseSelector(absl::string_view text);
std::string PrintSelector(const v1::Selector& selector);

}  // namespace ckpt

#endif  // CKPT_COMMON_CHECKPOINT_ID_H_
