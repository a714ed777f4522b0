// 128-bit identifiers: incarnations, checkpoint attempts, files, requests, sessions. A type each,
// so that they cannot be mixed up.
#ifndef CKPT_COMMON_IDS_H_
#define CKPT_COMMON_IDS_H_

#include <array>
#include <cstdint>
#include <cstring>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace ckpt {

namespace internal {
std::array<uint8_t, 16> RandomBytes16();       // from the kernel's generator; safe after fork
std::array<uint8_t, 16> TimeOrderedBytes16();  // UUIDv7 (RFC 9562): 48-bit milliseconds, then
                                               // random; strictly increasing within a process
std::string Hex(absl::string_view bytes);
bool ParseHex16(absl::string_view hex, std::array<uint8_t, 16>& out);
}  // namespace internal

template <typename Tag>
class Id128 {
 public:
  Id128() = default;  // all zero: "none"
  static Id128 Random() { return Id128(internal::RandomBytes16()); }
  static Id128 TimeOrdered() { return Id128(internal::TimeOrderedBytes16()); }
  // INVALID_ARGUMENT unless exactly 16 bytes, not all zero. `what` names the field in the error.
  static absl::StatusOr<Id128> FromBytes(absl::string_view bytes, absl::string_view what) {
    Id128 id;
    if (bytes.size() == 16) std::memcpy(id.bytes_.data(), bytes.data(), 16);
    if (bytes.size() != 16 || id.none()) {
      return absl::InvalidArgumentError(std::string(what) +
                                        " must be 16 bytes, not all zero; got " +
                                        std::to_string(bytes.size()) + " bytes");
    }
    return id;
  }
  // 32 lower-case hex digits.
  static absl::StatusOr<Id128> FromHex(absl::string_view hex, absl::string_view what) {
    Id128 id;
    if (!internal::ParseHex16(hex, id.bytes_)) {
      return absl::InvalidArgumentError(std::string(what) + " must be 32 lower-case hex digits");
    }
    return id;
  }
  bool none() const { return bytes_ == std::array<uint8_t, 16>{}; }
  std::string bytes() const {
    return std::string(reinterpret_cast<const char*>(bytes_.data()), 16);
  }
  std::string hex() const {
    return internal::Hex(absl::string_view(reinterpret_cast<const char*>(bytes_.data()), 16));
  }
  friend auto operator<=>(const Id128&, const Id128&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const Id128& id) {
    return H::combine(std::move(h), id.bytes_);
  }

 private:
  explicit Id128(std::array<uint8_t, 16> bytes) : bytes_(bytes) {}
  std::array<uint8_t, 16> bytes_{};
};

using Incarnation = Id128<struct IncarnationTag>;  // one launch of a job; TimeOrdered
using CheckpointUid =
    Id128<struct CheckpointUidTag>;      // one attempt at saving a checkpoint; TimeOrdered
using FileId = Id128<struct FileIdTag>;  // a data file, staging file or part manifest
using RequestId = Id128<struct RequestIdTag>;
using SessionToken = Id128<struct SessionTokenTag>;
using PlanId = Id128<struct PlanIdTag>;

}  // namespace ckpt

#endif  // CKPT_COMMON_IDS_H_
