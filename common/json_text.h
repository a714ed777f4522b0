// JSON as text, appended to a string: what headers of a million tensors are written with.
#ifndef CKPT_COMMON_JSON_TEXT_H_
#define CKPT_COMMON_JSON_TEXT_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace ckpt {

// With its quotes. Bytes that are not UTF-8 become U+FFFD.
void AppendJsonString(absl::string_view text, std::string& out);
void AppendJsonEscaped(absl::string_view text, std::string& out);  // the same without them
void AppendJsonNumbers(absl::Span<const uint64_t> numbers, std::string& out);  // [1,2,3]
// Shortest form that reads back equal, always with a point or an exponent; "NaN", "Infinity" and
// "-Infinity" as strings.
void AppendJsonDouble(double number, std::string& out);

// Length of AppendJsonEscaped's output.
uint64_t JsonStringBytes(absl::string_view text);
// True only where that output is `text` itself: of printable ASCII without quotes and backslashes.
bool JsonStandsForItself(absl::string_view text);

inline uint64_t JsonNumberBytes(uint64_t number) {
  uint64_t digits = 1;
  for (; number >= 10000; number /= 10000) digits += 4;
  return digits + (number >= 10) + (number >= 100) + (number >= 1000);
}

}  // namespace ckpt

#endif  // CKPT_COMMON_JSON_TEXT_H_
