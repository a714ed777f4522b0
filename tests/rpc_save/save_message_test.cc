// How a Save stream's messages are taken apart: however gRPC has cut them into slices, and in
// whatever order a foreign client writes the fields of Data.
#include "server/rpc/save_message.h"

#include <grpcpp/impl/codegen/sync_stream.h>

#include "absl/strings/str_join.h"
#include "tests/rpc_save/save_fixture.h"

namespace ckpt {
namespace {

grpc::ByteBuffer Cut(const std::string& bytes, size_t slice_bytes) {
  std::vector<grpc::Slice> slices;
  for (size_t at = 0; at < bytes.size(); at += slice_bytes) {
    slices.emplace_back(bytes.substr(at, slice_bytes));
  }
  return grpc::ByteBuffer(slices.data(), slices.size());
}

v1::SaveRequest DataRequest(uint64_t offset, const std::string& payload) {
  v1::SaveRequest request;
  request.mutable_data()->set_offset(offset);
  request.mutable_data()->set_crc32c(Crc32c(payload));
  request.mutable_data()->set_data(payload);
  return request;
}

void ExpectData(const std::string& wire, size_t slice_bytes, uint64_t offset,
                const std::string& payload) {
  grpc::ByteBuffer received = Cut(wire, slice_bytes);
  SaveMessage message;
  ASSERT_TRUE(message.Parse(received).ok());
  ASSERT_EQ(message.kind(), v1::SaveRequest::kData);
  EXPECT_EQ(message.offset(), offset);
  EXPECT_EQ(message.payload().crc32c, Crc32c(payload));
  EXPECT_EQ(message.payload().bytes(), payload.size());
  EXPECT_EQ(absl::StrJoin(message.payload().pieces, ""), payload);
}

TEST(SaveMessage, DataHoweverItIsCutIntoSlices) {
  const std::string payload = Pattern(5000, 3);
  for (const uint64_t offset : {uint64_t{0}, uint64_t{77}, uint64_t{1} << 45, UINT64_MAX}) {
    const std::string wire = DataRequest(offset, payload).SerializeAsString();
    for (const size_t slice_bytes : {1, 2, 7, 29, 30, 31, 63, 64, 65, 4096, 10000}) {
      ExpectData(wire, slice_bytes, offset, payload);
    }
  }
  ExpectData(DataRequest(0, "").SerializeAsString(), 100, 0, "");
}

TEST(SaveMessage, DataWithItsFieldsInAnotherOrder) {
  const std::string payload = Pattern(1000, 4);
  const v1::SaveRequest request = DataRequest(1234, payload);
  v1::Data without = request.data();
  without.clear_data();
  v1::Data only;
  only.set_data(payload);
  auto wrap = [](const std::string& inner) {
    std::string wire("\x1a");  // SaveRequest.data
    for (size_t length = inner.size();; length >>= 7) {
      wire.push_back(static_cast<char>(length < 0x80 ? length : (length & 0x7f) | 0x80));
      if (length < 0x80) break;
    }
    return wire + inner;
  };
  const std::string head = without.SerializeAsString();
  const std::string tail = only.SerializeAsString();
  ExpectData(wrap(head + tail), 100, 1234, payload);
  ExpectData(wrap(tail + head), 100, 1234, payload);
  ExpectData(wrap("\x78\x05" + head + tail), 100, 1234, payload);  // with a field of tomorrow's
  ExpectData(wrap(head) + wrap(tail), 100, 1234, payload);         // halves are merged
  ExpectData(wrap(head + only.SerializeAsString() + tail), 100, 1234, payload);  // the last counts
  v1::SaveRequest progress;
  progress.mutable_progress()->set_written(5);
  ExpectData(progress.SerializeAsString() + wrap(head + tail), 100, 1234, payload);
}

TEST(SaveMessage, OtherKindsAndMessagesThatAreNone) {
  v1::SaveRequest finish;
  finish.mutable_finish()->set_part_bytes(99);
  grpc::ByteBuffer received = Cut(finish.SerializeAsString(), 1);
  SaveMessage message;
  ASSERT_TRUE(message.Parse(received).ok());
  EXPECT_EQ(message.kind(), v1::SaveRequest::kFinish);
  EXPECT_EQ(message.request().finish().part_bytes(), 99u);

  const std::string wire = DataRequest(5, Pattern(300, 1)).SerializeAsString();
  for (size_t length = 1; length < wire.size(); ++length) {
    grpc::ByteBuffer cut_short = Cut(wire.substr(0, length), 50);
    SaveMessage broken;
    EXPECT_TRUE(absl::IsInvalidArgument(broken.Parse(cut_short))) << length;
  }
  for (const std::string& text :
       {wire + "\x1a", std::string(64, '\xff'), std::string("\x1a\xff")}) {
    grpc::ByteBuffer garbage = Cut(text, 50);
    SaveMessage broken;
    EXPECT_TRUE(absl::IsInvalidArgument(broken.Parse(garbage)));
  }
  grpc::ByteBuffer empty = Cut("", 1);
  SaveMessage nothing;
  ASSERT_TRUE(nothing.Parse(empty).ok());
  EXPECT_EQ(nothing.kind(), v1::SaveRequest::KIND_NOT_SET);
}

class GarbageTest : public SaveServiceTest {};

TEST_F(GarbageTest, AMessageThatDoesNotParseIsSaidAndAbortsThePart) {
  using Stream = grpc::ClientReaderWriter<grpc::ByteBuffer, v1::SaveResponse>;
  const grpc::internal::RpcMethod method("/ckpt.v1.SaveService/Save",
                                         grpc::internal::RpcMethod::BIDI_STREAMING, channel_);
  v1::SaveRequest begin;
  *begin.mutable_begin() = MakeBegin(1, 0, 1, *layout_);
  for (const bool after_begin : {false, true}) {
    grpc::ClientContext context;
    const std::unique_ptr<Stream> stream(
        grpc::internal::ClientReaderWriterFactory<grpc::ByteBuffer, v1::SaveResponse>::Create(
            channel_.get(), method, &context));
    if (after_begin) stream->Write(Cut(begin.SerializeAsString(), 1000));
    stream->Write(Cut("\x1a\x7fno Data", 1000));
    v1::SaveResponse response;
    while (stream->Read(&response)) continue;
    const grpc::Status status = stream->Finish();
    EXPECT_EQ(status.error_code(), grpc::INVALID_ARGUMENT);
    EXPECT_THAT(status.error_message(), ::testing::HasSubstr("does not parse"));
  }
  EXPECT_TRUE(absl::IsAborted(Committed(1)));
}

}  // namespace
}  // namespace ckpt
