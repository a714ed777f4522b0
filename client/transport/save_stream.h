// One Save stream as the save protocol sees it, without gRPC's types.
#ifndef CKPT_CLIENT_TRANSPORT_SAVE_STREAM_H_
#define CKPT_CLIENT_TRANSPORT_SAVE_STREAM_H_

#include <cstddef>
#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "ckpt/v1/save.pb.h"

namespace ckpt {

// One thread may write while another reads. Finish is called once, when neither does any more.
// Cancel may be called from any thread at any time.
class SaveStream {
 public:
  virtual ~SaveStream() = default;
  // False: the stream is over, Finish says why.
  virtual bool Write(const v1::SaveRequest& request) = 0;
  // Sends one Data message of `bytes` <= kChunkBytesMax at part offset `offset`, with their CRC.
  // `fill` writes them into a buffer of the transport's, a step at a time: the given number of
  // bytes from the given part offset on. Blocks while too much is in flight.
  using Fill = absl::FunctionRef<void(uint64_t offset, size_t bytes, std::byte* out)>;
  virtual bool WriteData(uint64_t offset, size_t bytes, Fill fill) = 0;
  virtual bool Read(v1::SaveResponse* response) = 0;
  virtual absl::Status Finish() = 0;
  virtual void Cancel() = 0;
};

}  // namespace ckpt

#endif  // CKPT_CLIENT_TRANSPORT_SAVE_STREAM_H_
