#include "common/byte_size.h"

#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/quoted.h"

namespace ckpt {
namespace {

struct Unit {
  const char* name;
  uint64_t bytes;
};
constexpr uint64_t kKi = 1024;
constexpr uint64_t kK = 1000;
constexpr Unit kUnits[] = {
    {"", 1},
    {"b", 1},
    {"kib", kKi},
    {"mib", kKi* kKi},
    {"gib", kKi* kKi* kKi},
    {"tib", kKi* kKi* kKi* kKi},
    {"pib", kKi* kKi* kKi* kKi* kKi},
    {"ki", kKi},
    {"mi", kKi* kKi},
    {"gi", kKi* kKi* kKi},
    {"ti", kKi* kKi* kKi* kKi},
    {"pi", kKi* kKi* kKi* kKi* kKi},
    {"kb", kK},
    {"mb", kK* kK},
    {"gb", kK* kK* kK},
    {"tb", kK* kK* kK* kK},
    {"pb", kK* kK* kK* kK* kK},
};

absl::Status Refuse(absl::string_view text, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("not a size: ", Quoted(text), " (", why,
                                                 "); write for example 512, 64KiB, 4GiB or 4GB"));
}

}  // namespace

absl::StatusOr<uint64_t> ParseByteSize(absl::string_view text) {
  const absl::string_view trimmed = absl::StripAsciiWhitespace(text);
  size_t i = 0;
  unsigned __int128 mantissa = 0;
  unsigned __int128 scale = 1;  // mantissa / scale is the number
  bool digits = false, point = false;
  for (; i < trimmed.size(); ++i) {
    const char c = trimmed[i];
    if (c == '.' && !point) {
      point = true;
    } else if (absl::ascii_isdigit(c)) {
      digits = true;
      if (mantissa > std::numeric_limits<uint64_t>::max()) return Refuse(text, "too large");
      if (point && scale >= 1000000000000) return Refuse(text, "too many decimals");
      mantissa = mantissa * 10 + static_cast<unsigned>(c - '0');
      if (point) scale *= 10;
    } else {
      break;
    }
  }
  if (!digits) return Refuse(text, "no number");
  const std::string name = absl::AsciiStrToLower(absl::StripAsciiWhitespace(trimmed.substr(i)));
  for (const Unit& unit : kUnits) {
    if (name != unit.name) continue;
    if (point && unit.bytes == 1) return Refuse(text, "a fraction of a byte");
    const unsigned __int128 bytes = mantissa * unit.bytes / scale;
    if (bytes > std::numeric_limits<uint64_t>::max()) return Refuse(text, "too large");
    return static_cast<uint64_t>(bytes);
  }
  return Refuse(text, "unknown unit");
}

std::string PrintByteSize(uint64_t bytes) {
  static constexpr const char* kNames[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (bytes < kKi) return absl::StrCat(bytes, " B");
  double value = static_cast<double>(bytes) / kKi;
  size_t i = 0;
  // 1023.95 would print as 1024.0.
  while (value >= 1023.95 && i + 1 < std::size(kNames)) {
    value /= kKi;
    ++i;
  }
  return absl::StrFormat("%.1f %s", value, kNames[i]);
}

}  // namespace ckpt
