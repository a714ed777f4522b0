// A save spoken by hand over gRPC, stream transport, no session: what a foreign or a hostile client
// could send.
#ifndef CKPT_TESTS_INTEGRATION_RAW_SAVE_H_
#define CKPT_TESTS_INTEGRATION_RAW_SAVE_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ckpt/v1/save.grpc.pb.h"
#include "common/checkpoint_id.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "tests/fixtures/test_state.h"

namespace ckpt::testing {

// A part as it goes over the wire.
struct RawPart {
  std::string layout;  // serialized
  std::string layout_digest;
  std::string values;  // serialized; empty: none
  std::string bytes;   // of the whole part
};
RawPart MakeRawPart(const TestState& state, uint32_t rank, uint32_t world_size);

class RawSave {
 public:
  explicit RawSave(const std::shared_ptr<grpc::Channel>& channel);
  ~RawSave();  // breaks the stream unless it is over

  // False once the stream is broken.
  bool Send(const v1::SaveRequest& request);
  bool SendBegin(const v1::Begin& begin);
  bool SendChunks(v1::Chunk::Kind kind, const std::string& bytes);
  bool SendData(uint64_t offset, absl::string_view bytes);
  bool SendFinish(uint64_t part_bytes);
  // The next answer; where the stream is over, its status (UNKNOWN for OK).
  absl::StatusOr<v1::SaveResponse> Receive();
  // Reads on to the end of the stream and tells how it ended.
  absl::Status End();

  // Begin, layout if asked for, values, as far as Accepted.
  absl::StatusOr<v1::Accepted> Open(const v1::Begin& begin, const RawPart& part);
  // The bytes, Finish and Staged. `Open` first.
  absl::Status Complete(const RawPart& part, uint64_t from = 0);

 private:
  std::unique_ptr<v1::SaveService::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::SaveRequest, v1::SaveResponse>> stream_;
  bool over_ = false;
  absl::Status status_;
};

v1::Begin MakeBegin(const CheckpointId& id, const RawPart& part, uint32_t rank,
                    uint32_t world_size);

}  // namespace ckpt::testing

#endif  // CKPT_TESTS_INTEGRATION_RAW_SAVE_H_
