// The Save stream over gRPC. Data messages are put together by hand - a few bytes of envelope, then
// the tensor's own memory - so that nothing is copied between a large tensor and the socket. Small
// tensors and what must be computed go through buffers that are reused.
#ifndef CKPT_CLIENT_TRANSPORT_GRPC_SAVE_STREAM_H_
#define CKPT_CLIENT_TRANSPORT_GRPC_SAVE_STREAM_H_

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "client/transport/save_stream.h"
#include "common/mutex.h"

namespace ckpt {

// Buffers of kChunkBytesMax that live from chunk to chunk and from save to save. Thread-safe. Lent
// buffers keep the pool alive: gRPC may hold one a little longer than its stream.
class ChunkBuffers : public std::enable_shared_from_this<ChunkBuffers> {
 public:
  explicit ChunkBuffers(size_t count_max) : count_max_(count_max) {}
  struct Buffer {
    std::unique_ptr<std::byte[]> bytes;
    std::shared_ptr<ChunkBuffers> lender;  // set while lent
    std::atomic<int> holds{0};             // while lent: by whom fills it and by slices of it
  };
  // Waits while all are lent; null once `*cancelled` is set (and Wake was called). It is the
  // caller's until he and everybody that a Hold was taken for have released it.
  Buffer* Take(const std::atomic<bool>& cancelled);
  static Buffer* Hold(Buffer* buffer);
  static void Release(void* buffer);
  void Wake();

 private:
  const size_t count_max_;
  Mutex mutex_;
  CondVar changed_;
  std::vector<std::unique_ptr<Buffer>> buffers_ ABSL_GUARDED_BY(mutex_);
  std::vector<Buffer*> free_ ABSL_GUARDED_BY(mutex_);
};

// `context` is the call's; `ended` is called by the destructor.
std::unique_ptr<SaveStream> OpenGrpcSaveStream(std::shared_ptr<grpc::Channel> channel,
                                               std::shared_ptr<grpc::ClientContext> context,
                                               std::shared_ptr<ChunkBuffers> buffers,
                                               std::function<void()> ended);

}  // namespace ckpt

#endif  // CKPT_CLIENT_TRANSPORT_GRPC_SAVE_STREAM_H_
