// One message of a Save stream, out of the bytes that gRPC received. Data, which is nearly all of
// them, is taken apart by hand and its payload left in gRPC's slices; protobuf would copy each
// chunk into a new string, whose pages the kernel makes and clears every time.
#ifndef CKPT_SERVER_RPC_SAVE_MESSAGE_H_
#define CKPT_SERVER_RPC_SAVE_MESSAGE_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "ckpt/v1/save.pb.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/slice.h"
#include "server/staging/received_bytes.h"

namespace ckpt {

// Parsed into place, since the payload points into it. Not thread-safe.
class SaveMessage {
 public:
  SaveMessage() = default;
  SaveMessage(const SaveMessage&) = delete;
  SaveMessage& operator=(const SaveMessage&) = delete;

  // Called once. Leaves `received` without meaning. INVALID_ARGUMENT: no SaveRequest.
  absl::Status Parse(grpc::ByteBuffer& received);

  v1::SaveRequest::KindCase kind() const { return kind_; }
  const v1::SaveRequest& request() const { return request_; }  // of every kind but Data
  // Of Chunk: its bytes, which the message does not have any more.
  std::string TakeChunkData() { return std::move(*request_.mutable_chunk()->mutable_data()); }
  // Of Data. The payload lives as long as the message does.
  uint64_t offset() const { return offset_; }
  ReceivedBytes payload() const { return {pieces_, crc32c_}; }

 private:
  bool TakeData();

  v1::SaveRequest::KindCase kind_ = v1::SaveRequest::KIND_NOT_SET;
  v1::SaveRequest request_;
  std::vector<grpc::Slice> slices_;
  uint64_t offset_ = 0;
  uint32_t crc32c_ = 0;
  std::vector<absl::string_view> pieces_;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_SAVE_MESSAGE_H_
