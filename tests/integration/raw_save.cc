#include "tests/integration/raw_save.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "common/digest.h"
#include "common/ids.h"
#include "common/limits.h"
#include "common/status_macros.h"
#include "gtest/gtest.h"

namespace ckpt::testing {
namespace {

constexpr size_t kDataBytes = 256 << 10;

}  // namespace

RawPart MakeRawPart(const TestState& state, uint32_t rank, uint32_t world_size) {
  const Part part = MakeTestPart(state, rank, world_size);
  const absl::StatusOr<PartPlan> plan = MakePartPlan(part);
  EXPECT_TRUE(plan.ok()) << plan.status();
  RawPart raw{.layout = plan->layout->serialized(),
              .layout_digest = plan->layout->digest(),
              .values = plan->values.SerializeAsString(),
              .bytes = std::string(plan->layout->part_bytes(), '\0')};
  for (size_t i = 0; i < plan->sources.size(); ++i) {
    const PartLayout::ShardPlace& place = plan->layout->shards()[i];
    const PartPlan::ShardSource& source = plan->sources[i];
    std::memcpy(raw.bytes.data() + place.part_offset,
                part.leaves[source.leaf].data + source.source_offset, place.length);
  }
  return raw;
}

v1::Begin MakeBegin(const CheckpointId& id, const RawPart& part, uint32_t rank,
                    uint32_t world_size) {
  v1::Begin begin;
  begin.set_request_id(RequestId::Random().bytes());
  *begin.mutable_id() = id.ToProto();
  begin.set_rank(rank);
  begin.set_world_size(world_size);
  begin.set_layout_digest(part.layout_digest);
  begin.set_transport(v1::TRANSPORT_STREAM);
  return begin;
}

RawSave::RawSave(const std::shared_ptr<grpc::Channel>& channel)
    : stub_(v1::SaveService::NewStub(channel)) {
  context_.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
  stream_ = stub_->Save(&context_);
}

RawSave::~RawSave() {
  if (over_) return;
  context_.TryCancel();
  v1::SaveResponse ignored;
  while (stream_->Read(&ignored)) {
  }
  stream_->Finish();
}

bool RawSave::Send(const v1::SaveRequest& request) { return stream_->Write(request); }

bool RawSave::SendBegin(const v1::Begin& begin) {
  v1::SaveRequest request;
  *request.mutable_begin() = begin;
  return Send(request);
}

bool RawSave::SendChunks(v1::Chunk::Kind kind, const std::string& bytes) {
  uint64_t offset = 0;
  do {
    const uint64_t length = std::min<uint64_t>(kChunkBytesMax, bytes.size() - offset);
    v1::SaveRequest request;
    request.mutable_chunk()->set_kind(kind);
    request.mutable_chunk()->set_offset(offset);
    request.mutable_chunk()->set_data(bytes.substr(offset, length));
    offset += length;
    request.mutable_chunk()->set_last(offset == bytes.size());
    if (!Send(request)) return false;
  } while (offset < bytes.size());
  return true;
}

bool RawSave::SendData(uint64_t offset, absl::string_view bytes) {
  v1::SaveRequest request;
  request.mutable_data()->set_offset(offset);
  request.mutable_data()->set_crc32c(Crc32c(bytes));
  request.mutable_data()->set_data(std::string(bytes));
  return Send(request);
}

bool RawSave::SendFinish(uint64_t part_bytes) {
  v1::SaveRequest request;
  request.mutable_finish()->set_part_bytes(part_bytes);
  return Send(request);
}

absl::StatusOr<v1::SaveResponse> RawSave::Receive() {
  v1::SaveResponse response;
  if (!over_ && stream_->Read(&response)) return response;
  const absl::Status status = End();
  return status.ok() ? absl::UnknownError("the stream ended with OK") : status;
}

absl::Status RawSave::End() {
  if (over_) return status_;
  v1::SaveResponse ignored;
  while (stream_->Read(&ignored)) {
  }
  over_ = true;
  const grpc::Status status = stream_->Finish();
  status_ =
      absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  return status_;
}

absl::StatusOr<v1::Accepted> RawSave::Open(const v1::Begin& begin, const RawPart& part) {
  SendBegin(begin);
  CKPT_ASSIGN_OR_RETURN(v1::SaveResponse response, Receive());
  if (response.has_need_plan()) {
    SendChunks(v1::Chunk::KIND_LAYOUT, part.layout);
    CKPT_ASSIGN_OR_RETURN(response, Receive());
  }
  if (!response.has_accepted()) {
    return absl::InternalError("instead of Accepted: " + response.ShortDebugString());
  }
  if (!part.values.empty()) SendChunks(v1::Chunk::KIND_VALUES, part.values);
  return response.accepted();
}

absl::Status RawSave::Complete(const RawPart& part, uint64_t from) {
  for (uint64_t offset = from; offset < part.bytes.size(); offset += kDataBytes) {
    if (!SendData(offset, absl::string_view(part.bytes).substr(offset, kDataBytes))) return End();
  }
  SendFinish(part.bytes.size());
  for (;;) {
    CKPT_ASSIGN_OR_RETURN(const v1::SaveResponse response, Receive());
    if (response.has_staged()) return End();
  }
}

}  // namespace ckpt::testing
