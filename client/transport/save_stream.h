// One Save stream as the save protocol sees it, without gRPC's types.
#ifndef CKPT_CLIENT_TRANSPORT_SAVE_STREAM_H_
#define CKPT_CLIENT_TRANSPORT_SAVE_STREAM_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ckpt/v1/save.pb.h"

namespace ckpt {

inline constexpr absl::Duration kLingerMax = absl::Seconds(5);

// A part's bytes as a transport wants them. May be used from any thread.
struct DataSource {
  // The first of the bytes [offset, offset + bytes) that lie together: where, or null where they
  // must be copied, and how many. What `owner` keeps is held for as long as they may be read.
  struct Piece {
    const std::byte* data = nullptr;
    uint64_t bytes = 0;
  };
  absl::FunctionRef<Piece(uint64_t offset, uint64_t bytes)> piece_at;
  // Writes the bytes [offset, offset + bytes) to `out`.
  absl::FunctionRef<void(uint64_t offset, uint64_t bytes, std::byte* out)> copy;
  std::shared_ptr<const void> owner;
};

// One thread may write while another reads. Finish is called once, when neither does any more.
// Cancel may be called from any thread at any time.
class SaveStream {
 public:
  virtual ~SaveStream() = default;
  // False: the stream is over, Finish says why.
  virtual bool Write(const v1::SaveRequest& request) = 0;
  // Sends one Data message of `bytes` <= kChunkBytesMax at part offset `offset`, with their CRC.
  // Long pieces go out from where they lie, short ones through a buffer of the transport's. Blocks
  // while too much is in flight.
  virtual bool WriteData(uint64_t offset, size_t bytes, const DataSource& source) = 0;
  virtual bool Read(v1::SaveResponse* response) = 0;
  // Waits until nothing reads the sources' memory any more; kLingerMax at most, as a daemon that
  // was stopped in the middle of a write takes what was handed to it and does not end.
  virtual absl::Status Finish() = 0;
  virtual void Cancel() = 0;
};

}  // namespace ckpt

#endif  // CKPT_CLIENT_TRANSPORT_SAVE_STREAM_H_
