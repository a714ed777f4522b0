// Element types: sizes and safetensors names.
#ifndef CKPT_COMMON_DTYPE_H_
#define CKPT_COMMON_DTYPE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "ckpt/v1/checkpoint.pb.h"

namespace ckpt {

using DType = v1::DType;

// Bytes per element: 1, 2, 4 or 8. 0 for a value that is no known dtype.
uint64_t DTypeBytes(DType dtype);
// "F32", "BF16", ... as people see it; "C64" for complex.
absl::string_view DTypeName(DType dtype);
// What a safetensors header says: as DTypeName, but "F32" for C64, whose shape gets a trailing 2
// there.
absl::string_view SafetensorsDTypeName(DType dtype);
// NOT_FOUND for a name that no version of safetensors has; I64, BOOL, F8_E4M3 and so on.
absl::StatusOr<DType> ParseDType(absl::string_view safetensors_name);

}  // namespace ckpt

#endif  // CKPT_COMMON_DTYPE_H_
