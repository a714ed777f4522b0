#include "common/quoted.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/utf8.h"

namespace ckpt {

std::string Quoted(absl::string_view name) {
  constexpr size_t kShownBytesMax = 120;
  absl::string_view shown = name.substr(0, kShownBytesMax);
  // Do not cut a character in two.
  while (shown.size() < name.size() && !shown.empty() &&
         (static_cast<unsigned char>(name[shown.size()]) & 0xc0) == 0x80) {
    shown.remove_suffix(1);
  }
  const std::string escaped =
      IsUtf8(shown) ? absl::Utf8SafeCEscape(shown) : absl::CHexEscape(shown);
  if (shown.size() == name.size()) return absl::StrCat("'", escaped, "'");
  return absl::StrCat("'", escaped, "...' (", name.size(), " bytes)");
}

}  // namespace ckpt
