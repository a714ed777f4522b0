// Sizes as people write them: 512, 64KiB, 4GiB, 1.5TiB (binary), 4GB (decimal).
#ifndef CKPT_COMMON_BYTE_SIZE_H_
#define CKPT_COMMON_BYTE_SIZE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace ckpt {

// INVALID_ARGUMENT names the text and gives an example.
absl::StatusOr<uint64_t> ParseByteSize(absl::string_view text);
// "4.0 GiB", "512 B": at most one decimal.
std::string PrintByteSize(uint64_t bytes);

}  // namespace ckpt

#endif  // CKPT_COMMON_BYTE_SIZE_H_
