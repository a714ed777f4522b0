// UTF-8 as Unicode defines it: shortest forms only, no surrogates, nothing past U+10FFFF.
#ifndef CKPT_COMMON_UTF8_H_
#define CKPT_COMMON_UTF8_H_

#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace ckpt {

// Bytes of the well-formed character at the beginning of `text`, 1 to 4; 0 where there is none
// (`text` is empty or begins with a byte that does not start a well-formed character).
size_t Utf8CharacterBytes(absl::string_view text);
bool IsUtf8(absl::string_view text);

}  // namespace ckpt

#endif  // CKPT_COMMON_UTF8_H_
