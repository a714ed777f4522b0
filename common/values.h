// The plain values of a part: what a layout's VALUE leaves hold.
#ifndef CKPT_COMMON_VALUES_H_
#define CKPT_COMMON_VALUES_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "ckpt/v1/checkpoint.pb.h"
#include "common/layout.h"

namespace ckpt {

// Each entry names a VALUE leaf, none twice, each with a kind. INVALID_ARGUMENT.
absl::Status ValidateValues(const v1::Values& values, const PartLayout& layout);

// Out of a serialized Values message of anybody's: two bytes of it can become an object of some
// hundred, so they are counted as they come, and no more are made than the layout has leaves.
// Fields of an entry that are not known here are left out. INVALID_ARGUMENT, as ValidateValues too.
absl::StatusOr<v1::Values> ParseValues(absl::string_view serialized, const PartLayout& layout);

}  // namespace ckpt

#endif  // CKPT_COMMON_VALUES_H_
