// A fuzzer's bytes, taken apart from the front. At their end there are zeros.
#ifndef CKPT_TESTS_FUZZ_INPUT_H_
#define CKPT_TESTS_FUZZ_INPUT_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace ckpt::fuzz {

class Input {
 public:
  explicit Input(absl::string_view bytes) : bytes_(bytes) {}
  bool empty() const { return bytes_.empty(); }
  uint8_t Byte() {
    if (bytes_.empty()) return 0;
    const uint8_t byte = static_cast<uint8_t>(bytes_.front());
    bytes_.remove_prefix(1);
    return byte;
  }
  // Little-endian, of `bytes` bytes.
  uint64_t Number(size_t bytes) {
    uint64_t number = 0;
    for (size_t i = 0; i < bytes; ++i) number |= uint64_t{Byte()} << (8 * i);
    return number;
  }
  absl::string_view Bytes(size_t count) {
    const absl::string_view taken = bytes_.substr(0, std::min(count, bytes_.size()));
    bytes_.remove_prefix(taken.size());
    return taken;
  }
  absl::string_view Rest() { return Bytes(bytes_.size()); }

 private:
  absl::string_view bytes_;
};

}  // namespace ckpt::fuzz

#endif  // CKPT_TESTS_FUZZ_INPUT_H_
