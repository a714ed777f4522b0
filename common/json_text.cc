#include "common/json_text.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

#include "common/utf8.h"

namespace ckpt {
namespace {

constexpr absl::string_view kReplacement = "\xef\xbf\xbd";

bool StandsForItself(unsigned char c) { return c >= 32 && c < 0x80 && c != '"' && c != '\\'; }

// Whether all of eight bytes do: names are long, and hardly ever hold anything else.
bool EightStandForThemselves(const char* bytes) {
  constexpr uint64_t kOnes = 0x0101010101010101;
  constexpr uint64_t kHighBits = 0x80 * kOnes;
  uint64_t word;
  std::memcpy(&word, bytes, sizeof(word));
  const auto any_below = [](uint64_t w, uint64_t n) { return (w - n * kOnes) & ~w & kHighBits; };
  return ((word & kHighBits) | any_below(word, 32) | any_below(word ^ ('"' * kOnes), 1) |
          any_below(word ^ ('\\' * kOnes), 1)) == 0;
}

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
    if (text.size() - plain >= 8 && EightStandForThemselves(text.data() + plain)) {
      plain += 8;
      continue;
    }
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

bool JsonStandsForItself(absl::string_view text) {
  const char* const end = text.data() + text.size();
  if (text.size() < 8) return std::all_of(text.begin(), text.end(), StandsForItself);
  for (const char* at = text.data(); end - at > 8; at += 8) {
    if (!EightStandForThemselves(at)) return false;
  }
  return EightStandForThemselves(end - 8);  // some of them for the second time
}

void AppendJsonEscaped(absl::string_view text, std::string& out) {
  if (JsonStandsForItself(text)) {  // nearly always
    out.append(text.data(), text.size());
    return;
  }
  Escaped(text, [&](absl::string_view piece) { out.append(piece.data(), piece.size()); });
}

void AppendJsonString(absl::string_view text, std::string& out) {
  out.push_back('"');
  AppendJsonEscaped(text, out);
  out.push_back('"');
}

uint64_t JsonStringBytes(absl::string_view text) {
  if (JsonStandsForItself(text)) return text.size();
  uint64_t bytes = 0;
  Escaped(text, [&](absl::string_view piece) { bytes += piece.size(); });
  return bytes;
}

void AppendJsonNumbers(absl::Span<const uint64_t> numbers, std::string& out) {
  // Put together apart and appended once: headers have millions of these.
  constexpr size_t kNumbersAtOnce = 8;
  constexpr size_t kNumberBytesMax = 21;  // with its comma
  char text[kNumbersAtOnce * kNumberBytesMax];
  out.push_back('[');
  for (size_t i = 0; i < numbers.size();) {
    char* end = text;
    for (size_t n = 0; n < kNumbersAtOnce && i < numbers.size(); ++n, ++i) {
      if (i > 0) *end++ = ',';
      end = std::to_chars(end, text + sizeof(text), numbers[i]).ptr;
    }
    out.append(text, end);
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
