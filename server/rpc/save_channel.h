// The messages of one Save stream, as the thread that serves it sees them: blocking reads, queued
// writes, and a bell that others may ring. What was read stays as gRPC received it: save_message.h
// takes it apart. The gRPC side of it is SaveReactor; it lives until gRPC is done with the call,
// the channel for as long as anybody holds it.
//
// Bounds: at most kReadAhead messages are read before they are asked for; acknowledgements and
// credits that the client has not yet read are replaced by newer ones.
#ifndef CKPT_SERVER_RPC_SAVE_CHANNEL_H_
#define CKPT_SERVER_RPC_SAVE_CHANNEL_H_

#include <deque>
#include <functional>
#include <memory>
#include <optional>

#include "absl/time/time.h"
#include "ckpt/v1/save.pb.h"
#include "common/mutex.h"
#include "grpcpp/grpcpp.h"
#include "server/rpc/save_conversation.h"

namespace ckpt {

class SaveChannel : public SaveConversation, public std::enable_shared_from_this<SaveChannel> {
 public:
  class Reactor;
  using RawReactor = grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>;

  // Starts the call; `serve` runs on a thread of its own and must end with Finish. Where it is
  // null, or the system gives no thread, `refuse` is called here and now: it must Finish as well.
  static RawReactor* Start(std::function<void(std::shared_ptr<SaveChannel>)> serve,
                           const std::function<void(std::shared_ptr<SaveChannel>)>& refuse);

  // --- the serving thread
  Event Next(grpc::ByteBuffer* message, absl::Time deadline) override;
  void Send(v1::SaveResponse message) override;
  // The last call. `last` is sent before the status.
  void Finish(grpc::Status status, std::optional<v1::SaveResponse> last = std::nullopt);

  // --- any thread
  void Ring() override;
  bool broken() const override;

 private:
  friend class Reactor;
  void StartReadIfRoom() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void StartNextWrite() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnReadDone(bool ok);
  void OnWriteDone(bool ok);
  void OnCancel();

  mutable Mutex mutex_;
  CondVar changed_;
  Reactor* reactor_ ABSL_GUARDED_BY(mutex_) = nullptr;  // null once it has been told to finish
  bool reading_ ABSL_GUARDED_BY(mutex_) = false;
  bool half_closed_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Time half_closed_at_ ABSL_GUARDED_BY(mutex_);
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;
  bool rung_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<grpc::ByteBuffer> received_ ABSL_GUARDED_BY(mutex_);
  grpc::ByteBuffer incoming_;  // gRPC's while reading_
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<v1::SaveResponse> outgoing_ ABSL_GUARDED_BY(mutex_);
  grpc::ByteBuffer in_flight_;  // gRPC's while writing_, and the last message for good
  std::optional<grpc::Status> final_status_ ABSL_GUARDED_BY(mutex_);
  std::optional<v1::SaveResponse> last_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_SAVE_CHANNEL_H_
