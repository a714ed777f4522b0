#include "server/rpc/save_message.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "google/protobuf/io/coded_stream.h"
#include "grpcpp/impl/codegen/proto_utils.h"

namespace ckpt {
namespace {

// SaveRequest{data = Data{offset, crc32c, data}} without the payload takes 30 bytes at most.
constexpr size_t kEnvelopeBytesMax = 64;

// Protobuf's wire types.
constexpr uint32_t kVarint = 0;
constexpr uint32_t kLengthDelimited = 2;
constexpr uint32_t kFixed32 = 5;
constexpr uint32_t Tag(int field, uint32_t wire_type) {
  return static_cast<uint32_t>(field) << 3 | wire_type;
}

absl::string_view BytesOf(const grpc::Slice& slice) {
  return {reinterpret_cast<const char*>(slice.begin()), slice.size()};
}

struct Envelope {
  uint64_t offset = 0;
  uint32_t crc32c = 0;
  size_t bytes = 0;  // the payload is what follows, to the end of the message
};

// False: not Data, or not written as protobuf writes it (the payload last, nothing unknown).
bool ReadEnvelope(absl::string_view head, uint64_t message_bytes, Envelope& envelope) {
  google::protobuf::io::CodedInputStream in(reinterpret_cast<const uint8_t*>(head.data()),
                                            static_cast<int>(head.size()));
  const auto reaches_the_end = [&] {
    uint64_t length = 0;
    return in.ReadVarint64(&length) &&
           length == message_bytes - static_cast<uint64_t>(in.CurrentPosition());
  };
  if (in.ReadTag() != Tag(v1::SaveRequest::kDataFieldNumber, kLengthDelimited)) return false;
  if (!reaches_the_end()) return false;
  while (true) {
    switch (in.ReadTag()) {
      case Tag(v1::Data::kOffsetFieldNumber, kVarint):
        if (!in.ReadVarint64(&envelope.offset)) return false;
        break;
      case Tag(v1::Data::kCrc32CFieldNumber, kFixed32):
        if (!in.ReadLittleEndian32(&envelope.crc32c)) return false;
        break;
      case Tag(v1::Data::kDataFieldNumber, kLengthDelimited):
        if (!reaches_the_end()) return false;
        envelope.bytes = static_cast<size_t>(in.CurrentPosition());
        return true;
      default:
        return false;
    }
  }
}

}  // namespace

bool SaveMessage::TakeData() {
  char head[kEnvelopeBytesMax];
  size_t head_bytes = 0;
  uint64_t message_bytes = 0;
  for (const grpc::Slice& slice : slices_) {
    const size_t part = std::min(slice.size(), kEnvelopeBytesMax - head_bytes);
    if (part > 0) std::memcpy(head + head_bytes, slice.begin(), part);
    head_bytes += part;
    message_bytes += slice.size();
  }
  Envelope envelope;
  if (!ReadEnvelope({head, head_bytes}, message_bytes, envelope)) return false;
  kind_ = v1::SaveRequest::kData;
  offset_ = envelope.offset;
  crc32c_ = envelope.crc32c;
  size_t skip = envelope.bytes;
  for (const grpc::Slice& slice : slices_) {
    absl::string_view piece = BytesOf(slice);
    const size_t skipped = std::min(skip, piece.size());
    piece.remove_prefix(skipped);
    skip -= skipped;
    if (!piece.empty()) pieces_.push_back(piece);
  }
  return true;
}

absl::Status SaveMessage::Parse(grpc::ByteBuffer& received) {
  const absl::Status broken =
      absl::InvalidArgumentError("a message of the Save stream does not parse as SaveRequest");
  // Data of an older or foreign writer may hold its fields in another order: protobuf takes it.
  if (!received.Dump(&slices_).ok()) return broken;
  if (TakeData()) {
    received.Clear();
    return absl::OkStatus();
  }
  slices_.clear();
  if (!grpc::SerializationTraits<v1::SaveRequest>::Deserialize(&received, &request_).ok()) {
    return broken;
  }
  request_.DiscardUnknownFields();  // a stream may hold this for long
  kind_ = request_.kind_case();
  if (kind_ == v1::SaveRequest::kData) {
    offset_ = request_.data().offset();
    crc32c_ = request_.data().crc32c();
    pieces_.push_back(request_.data().data());
  }
  return absl::OkStatus();
}

}  // namespace ckpt
