// Integers as zip archives and pickles hold them.
#ifndef CKPT_CLIENT_CLI_TORCH_FILE_LITTLE_ENDIAN_H_
#define CKPT_CLIENT_CLI_TORCH_FILE_LITTLE_ENDIAN_H_

#include <bit>
#include <concepts>
#include <cstring>
#include <string>

#include "absl/strings/string_view.h"

namespace ckpt::cli {

static_assert(std::endian::native == std::endian::little);

// `bytes` must have as many from `at` on.
template <std::integral T>
T LoadLittle(absl::string_view bytes, size_t at = 0) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof(value));
  return value;
}

template <std::integral T>
void AppendLittle(T value, std::string& out) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

}  // namespace ckpt::cli

#endif  // CKPT_CLIENT_CLI_TORCH_FILE_LITTLE_ENDIAN_H_
