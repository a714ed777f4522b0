// The payload of one Data message on its way into a staging file: its bytes where the transport
// left them, and what their CRC-32C must be.
#ifndef CKPT_SERVER_STAGING_RECEIVED_BYTES_H_
#define CKPT_SERVER_STAGING_RECEIVED_BYTES_H_

#include <cstdint>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace ckpt {

struct ReceivedBytes {
  absl::Span<const absl::string_view> pieces;  // in order; the caller's for as long as it is used
  uint32_t crc32c = 0;                         // of all of them

  uint64_t bytes() const {
    uint64_t sum = 0;
    for (absl::string_view piece : pieces) sum += piece.size();
    return sum;
  }
};

}  // namespace ckpt

#endif  // CKPT_SERVER_STAGING_RECEIVED_BYTES_H_
