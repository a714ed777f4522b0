#include "client/transport/grpc_save_stream.h"

#include <grpcpp/impl/codegen/proto_utils.h>
#include <grpcpp/impl/rpc_method.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/slice.h>
#include <grpcpp/support/sync_stream.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "client/transport/grpc_status.h"
#include "common/digest.h"
#include "common/limits.h"

namespace ckpt {
namespace {

constexpr char kMethod[] = "/ckpt.v1.SaveService/Save";
// Copied and hashed in turn: small enough that the CRC finds the copy in the cache, large enough
// that a copy from a GPU is still one worth starting.
constexpr size_t kStepBytes = 256 << 10;
// Shorter pieces are cheaper copied than sent as a slice of their own.
constexpr size_t kDirectBytesMin = 64 << 10;

// Protobuf's wire format, for the envelope of a Data message.
constexpr uint8_t Tag(int field, int wire_type) {
  return static_cast<uint8_t>(field << 3 | wire_type);
}
constexpr int kVarint = 0;
constexpr int kLengthDelimited = 2;
constexpr int kFixed32 = 5;

uint8_t* PutVarint(uint8_t* out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) *out++ = static_cast<uint8_t>(value | 0x80);
  *out++ = static_cast<uint8_t>(value);
  return out;
}

// SaveRequest{data = Data{offset, crc32c, data}} up to the first byte of the payload.
grpc::Slice DataEnvelope(uint64_t offset, uint32_t crc, uint64_t payload_bytes) {
  uint8_t inner[40];
  uint8_t* end = inner;
  *end++ = Tag(v1::Data::kOffsetFieldNumber, kVarint);
  end = PutVarint(end, offset);
  *end++ = Tag(v1::Data::kCrc32CFieldNumber, kFixed32);
  for (int shift = 0; shift < 32; shift += 8) *end++ = static_cast<uint8_t>(crc >> shift);
  *end++ = Tag(v1::Data::kDataFieldNumber, kLengthDelimited);
  end = PutVarint(end, payload_bytes);
  const auto inner_bytes = static_cast<size_t>(end - inner);
  uint8_t outer[64];
  uint8_t* at = outer;
  *at++ = Tag(v1::SaveRequest::kDataFieldNumber, kLengthDelimited);
  at = PutVarint(at, inner_bytes + payload_bytes);
  std::memcpy(at, inner, inner_bytes);
  return grpc::Slice(outer, static_cast<size_t>(at - outer) + inner_bytes);
}

uint32_t CopyAndHash(const DataSource& source, uint64_t offset, size_t bytes, std::byte* out,
                     uint32_t crc) {
  for (size_t done = 0; done < bytes;) {
    const size_t step = std::min(kStepBytes, bytes - done);
    source.copy(offset + done, step, out + done);
    crc = Crc32c(crc, out + done, step);
    done += step;
  }
  return crc;
}

// The caller's memory in gRPC's hands. gRPC may hold a slice a little longer than its call: what
// was handed to the socket's writer is written, or dropped with the connection.
class Loans : public std::enable_shared_from_this<Loans> {
 public:
  grpc::Slice Lend(const std::byte* data, size_t bytes, std::shared_ptr<const void> owner) {
    {
      MutexLock lock(mutex_);
      ++count_;
    }
    return grpc::Slice(const_cast<std::byte*>(data), bytes, &Loans::Return,
                       new Loan{shared_from_this(), std::move(owner)});
  }
  void AwaitReturn(absl::Time deadline) {
    MutexLock lock(mutex_);
    while (count_ > 0 && absl::Now() < deadline) returned_.WaitUntil(mutex_, deadline);
  }

 private:
  struct Loan {
    std::shared_ptr<Loans> loans;
    std::shared_ptr<const void> owner;
  };
  static void Return(void* loan) {
    const std::unique_ptr<Loan> returned(static_cast<Loan*>(loan));
    returned->owner.reset();
    MutexLock lock(returned->loans->mutex_);
    if (--returned->loans->count_ == 0) returned->loans->returned_.NotifyAll();
  }

  Mutex mutex_;
  CondVar returned_;
  uint64_t count_ ABSL_GUARDED_BY(mutex_) = 0;
};

class GrpcSaveStream : public SaveStream {
 public:
  GrpcSaveStream(std::shared_ptr<grpc::Channel> channel,
                 std::shared_ptr<grpc::ClientContext> context,
                 std::shared_ptr<ChunkBuffers> buffers, std::function<void()> ended)
      : channel_(std::move(channel)),
        context_(std::move(context)),
        buffers_(std::move(buffers)),
        ended_(std::move(ended)),
        method_(kMethod, grpc::internal::RpcMethod::BIDI_STREAMING, channel_),
        stream_(
            grpc::internal::ClientReaderWriterFactory<grpc::ByteBuffer, v1::SaveResponse>::Create(
                channel_.get(), method_, context_.get())) {}
  ~GrpcSaveStream() override {
    stream_.reset();
    ended_();
  }

  bool Write(const v1::SaveRequest& request) override {
    grpc::ByteBuffer buffer;
    bool own = false;
    const grpc::Status status =
        grpc::SerializationTraits<v1::SaveRequest>::Serialize(request, &buffer, &own);
    return status.ok() && stream_->Write(buffer);
  }

  bool WriteData(uint64_t offset, size_t bytes, const DataSource& source) override {
    std::vector<grpc::Slice> slices(1);  // the envelope, once the CRC is known
    ChunkBuffers::Buffer* buffer = nullptr;
    uint32_t crc = 0;
    for (size_t done = 0; done < bytes;) {
      const DataSource::Piece piece = source.piece_at(offset + done, bytes - done);
      if (piece.data != nullptr && piece.bytes >= kDirectBytesMin) {
        crc = Crc32c(crc, piece.data, piece.bytes);
        slices.push_back(loans_->Lend(piece.data, piece.bytes, source.owner));
        done += piece.bytes;
        continue;
      }
      size_t copied = piece.bytes;  // with what follows, up to the next long piece
      while (done + copied < bytes) {
        const DataSource::Piece next =
            source.piece_at(offset + done + copied, bytes - done - copied);
        if (next.data != nullptr && next.bytes >= kDirectBytesMin) break;
        copied += next.bytes;
      }
      if (buffer == nullptr) buffer = buffers_->Take(cancelled_);
      if (buffer == nullptr) return false;
      crc = CopyAndHash(source, offset + done, copied, buffer->bytes.get() + done, crc);
      slices.push_back(grpc::Slice(buffer->bytes.get() + done, copied, &ChunkBuffers::Release,
                                   ChunkBuffers::Hold(buffer)));
      done += copied;
    }
    if (buffer != nullptr) ChunkBuffers::Release(buffer);
    slices[0] = DataEnvelope(offset, crc, bytes);
    return stream_->Write(grpc::ByteBuffer(slices.data(), slices.size()));
  }

  bool Read(v1::SaveResponse* response) override { return stream_->Read(response); }
  absl::Status Finish() override {
    const grpc::Status status = stream_->Finish();
    loans_->AwaitReturn(absl::Now() + kLingerMax);
    return FromGrpcStatus(status, *context_);
  }
  void Cancel() override {
    cancelled_.store(true);
    context_->TryCancel();
    buffers_->Wake();
  }

 private:
  const std::shared_ptr<grpc::Channel> channel_;
  const std::shared_ptr<grpc::ClientContext> context_;
  const std::shared_ptr<ChunkBuffers> buffers_;
  const std::shared_ptr<Loans> loans_ = std::make_shared<Loans>();
  const std::function<void()> ended_;
  const grpc::internal::RpcMethod method_;
  std::unique_ptr<grpc::ClientReaderWriter<grpc::ByteBuffer, v1::SaveResponse>> stream_;
  std::atomic<bool> cancelled_{false};
};

}  // namespace

ChunkBuffers::Buffer* ChunkBuffers::Take(const std::atomic<bool>& cancelled) {
  MutexLock lock(mutex_);
  while (free_.empty() && buffers_.size() == count_max_) {
    if (cancelled.load()) return nullptr;
    changed_.Wait(mutex_);
  }
  if (cancelled.load()) return nullptr;
  if (free_.empty()) {
    buffers_.push_back(std::make_unique<Buffer>());
    buffers_.back()->bytes = std::make_unique<std::byte[]>(kChunkBytesMax);
    free_.push_back(buffers_.back().get());
  }
  Buffer* buffer = free_.back();
  free_.pop_back();
  buffer->lender = shared_from_this();
  buffer->holds.store(1);
  return buffer;
}

ChunkBuffers::Buffer* ChunkBuffers::Hold(Buffer* buffer) {
  ++buffer->holds;
  return buffer;
}

void ChunkBuffers::Release(void* buffer) {
  auto* released = static_cast<Buffer*>(buffer);
  if (--released->holds > 0) return;
  const std::shared_ptr<ChunkBuffers> lender = std::move(released->lender);
  MutexLock lock(lender->mutex_);
  lender->free_.push_back(released);
  lender->changed_.NotifyAll();
}

void ChunkBuffers::Wake() {
  MutexLock lock(mutex_);
  changed_.NotifyAll();
}

std::unique_ptr<SaveStream> OpenGrpcSaveStream(std::shared_ptr<grpc::Channel> channel,
                                               std::shared_ptr<grpc::ClientContext> context,
                                               std::shared_ptr<ChunkBuffers> buffers,
                                               std::function<void()> ended) {
  return std::make_unique<GrpcSaveStream>(std::move(channel), std::move(context),
                                          std::move(buffers), std::move(ended));
}

}  // namespace ckpt
