#include "common/json_text.h"

#include <charconv>
#include <cmath>

#include "common/utf8.h"

namespace ckpt {
namespace {

constexpr absl::string_view kReplacement = "\xef\xbf\xbd";

bool StandsForItself(unsigned char c) { return c >= 32 && c < 0x80 && c != '"' && c != '\\'; }

// The escape of an ASCII byte that does not.
absl::string_view Escape(unsigned char c) {
  static constexpr absl::string_view kControl[32] = {
      "\\u0000", "\\u0001", "\\u0002", "\\u0003", "\\u0004", "\\u0005", "\\u0006", "\\u0007",
      "\\b",     "\\t",     "\\n",     "\\u000b", "\\f",     "\\r",     "\\u000e", "\\u000f",
      "\\u0010", "\\u0011", "\\u0012", "\\u0013", "\\u0014", "\\u0015", "\\u0016", "\\u0017",
      "\\u0018", "\\u0019", "\\u001a", "\\u001b", "\\u001c", "\\u001d", "\\u001e", "\\u001f"};
  if (c < 32) return kControl[c];
  return c == '"' ? "\\\"" : "\\\\";
}

// Calls `append` with each piece of the escaped text.
template <typename Append>
void Escaped(absl::string_view text, Append append) {
  size_t plain = 0;  // bytes at the beginning of `text` that stand for themselves
  auto flush = [&](size_t skip) {
    if (plain > 0) append(text.substr(0, plain));
    text.remove_prefix(plain + skip);
    plain = 0;
  };
  while (plain < text.size()) {
    const unsigned char c = static_cast<unsigned char>(text[plain]);
    if (StandsForItself(c)) {
      ++plain;
    } else if (c < 0x80) {
      flush(1);
      append(Escape(c));
    } else if (const size_t bytes = Utf8CharacterBytes(text.substr(plain)); bytes > 0) {
      plain += bytes;
    } else {
      flush(1);
      append(kReplacement);
    }
  }
  flush(0);
}

}  // namespace

void AppendJsonString(absl::string_view text, std::string& out) {
  out.push_back('"');
  Escaped(text, [&](absl::string_view piece) { out.append(piece.data(), piece.size()); });
  out.push_back('"');
}

uint64_t JsonStringBytes(absl::string_view text) {
  uint64_t bytes = 0;
  Escaped(text, [&](absl::string_view piece) { bytes += piece.size(); });
  return bytes;
}

void AppendJsonNumber(uint64_t number, std::string& out) {
  char digits[20];
  const auto result = std::to_chars(digits, digits + sizeof(digits), number);
  out.append(digits, result.ptr);
}

void AppendJsonNumbers(absl::Span<const uint64_t> numbers, std::string& out) {
  out.push_back('[');
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (i > 0) out.push_back(',');
    AppendJsonNumber(numbers[i], out);
  }
  out.push_back(']');
}

void AppendJsonDouble(double number, std::string& out) {
  if (std::isnan(number)) {
    out += "\"NaN\"";
  } else if (std::isinf(number)) {
    out += number > 0 ? "\"Infinity\"" : "\"-Infinity\"";
  } else {
    char text[32];
    const auto result = std::to_chars(text, text + sizeof(text), number);
    const absl::string_view digits(text, static_cast<size_t>(result.ptr - text));
    out.append(digits.data(), digits.size());
    if (digits.find_first_of(".e") == absl::string_view::npos) out += ".0";
  }
}

}  // namespace ckpt
