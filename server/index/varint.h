// Numbers of as many bytes as they need, and texts behind their length: what packed rows are made
// of. The numbers are Protobuf's varints.
#ifndef CKPT_SERVER_INDEX_VARINT_H_
#define CKPT_SERVER_INDEX_VARINT_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace ckpt::index_records {

inline void PutVarint(std::string& out, uint64_t value) {
  while (value >= 0x80) {
    out.push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out.push_back(static_cast<char>(value));
}

inline void PutText(std::string& out, absl::string_view text) {
  PutVarint(out, text.size());
  out.append(text.data(), text.size());
}

// Reads off the front; once something is missing, all that follows is, too.
class VarintReader {
 public:
  explicit VarintReader(absl::string_view bytes) : rest_(bytes) {}

  uint64_t Varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
      const auto byte = static_cast<uint8_t>(rest_.front());
      rest_.remove_prefix(1);
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    ok_ = false;
    rest_ = {};
    return 0;
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
  absl::string_view rest() const { return rest_; }

 private:
  absl::string_view rest_;
  bool ok_ = true;
};

}  // namespace ckpt::index_records

#endif  // CKPT_SERVER_INDEX_VARINT_H_
