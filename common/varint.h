// Numbers of as many bytes as they need, and texts behind their length: what packed rows and
// Protobuf's messages are made of.
#ifndef CKPT_COMMON_VARINT_H_
#define CKPT_COMMON_VARINT_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace ckpt {

inline void PutVarint(std::string& out, uint64_t value) {
  if (value < 0x80) return out.push_back(static_cast<char>(value));
  char bytes[10];
  size_t count = 0;
  for (; value >= 0x80; value >>= 7) bytes[count++] = static_cast<char>(value | 0x80);
  bytes[count++] = static_cast<char>(value);
  out.append(bytes, count);
}

inline void PutText(std::string& out, absl::string_view text) {
  PutVarint(out, text.size());
  out.append(text.data(), text.size());
}

inline size_t VarintBytes(uint64_t value) {
  size_t bytes = 1;
  for (; value >= 0x80; value >>= 7) ++bytes;
  return bytes;
}

// Reads off the front; once something is missing, all that follows is, too.
class VarintReader {
 public:
  explicit VarintReader(absl::string_view bytes) : rest_(bytes) {}

  uint64_t Varint() {
    if (rest_.empty() || static_cast<uint8_t>(rest_.front()) >= 0x80) return LongVarint();
    const auto value = static_cast<uint64_t>(rest_.front());
    rest_.remove_prefix(1);
    return value;
  }

  absl::string_view Text() {
    const uint64_t bytes = Varint();
    if (bytes > rest_.size()) {
      ok_ = false;
      rest_ = {};
      return {};
    }
    const absl::string_view text = rest_.substr(0, bytes);
    rest_.remove_prefix(bytes);
    return text;
  }

  bool ok() const { return ok_; }
  // No number so far took more bytes than it needs, or was of more than 64 bits.
  bool canonical() const { return canonical_; }
  absl::string_view rest() const { return rest_; }

 private:
  uint64_t LongVarint() {  // or one that is missing
    uint64_t value = 0;
    for (int shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
      const auto byte = static_cast<uint8_t>(rest_.front());
      rest_.remove_prefix(1);
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte >= 0x80) continue;
      if (shift > 0 && (byte == 0 || (shift == 63 && byte > 1))) canonical_ = false;
      return value;
    }
    ok_ = false;
    rest_ = {};
    return 0;
  }

  absl::string_view rest_;
  bool ok_ = true;
  bool canonical_ = true;
};

}  // namespace ckpt

#endif  // CKPT_COMMON_VARINT_H_
