#include "server/rpc/save_channel.h"

#include <algorithm>
#include <system_error>
#include <thread>
#include <utility>

#include "grpcpp/impl/codegen/proto_utils.h"

namespace ckpt {
namespace {

constexpr size_t kReadAhead = 4;
// A cancelled call ends its reads as a half-closed one does; that it was cancelled is told beside
// that, perhaps a little later.
constexpr absl::Duration kCancelPatience = absl::Milliseconds(200);

bool Replaceable(const v1::SaveResponse& message) {
  return message.kind_case() == v1::SaveResponse::kAck ||
         message.kind_case() == v1::SaveResponse::kCredit;
}

grpc::ByteBuffer Serialized(const v1::SaveResponse& message) {
  grpc::ByteBuffer bytes;
  bool own = false;
  // Fails above 2 GiB only.
  (void)grpc::SerializationTraits<v1::SaveResponse>::Serialize(message, &bytes, &own);
  return bytes;
}

}  // namespace

// gRPC calls it from its own threads and never from within a Start call of ours. It deletes itself
// when gRPC is done, which is after Finish.
class SaveChannel::Reactor : public SaveChannel::RawReactor {
 public:
  explicit Reactor(std::shared_ptr<SaveChannel> channel) : channel_(std::move(channel)) {}
  void OnReadDone(bool ok) override { Hold()->OnReadDone(ok); }
  void OnWriteDone(bool ok) override { Hold()->OnWriteDone(ok); }
  void OnCancel() override { Hold()->OnCancel(); }
  void OnDone() override { delete this; }

 private:
  // The reactor may be deleted by another thread while the channel finishes it.
  std::shared_ptr<SaveChannel> Hold() { return channel_; }
  const std::shared_ptr<SaveChannel> channel_;
};

SaveChannel::RawReactor* SaveChannel::Start(
    std::function<void(std::shared_ptr<SaveChannel>)> serve,
    const std::function<void(std::shared_ptr<SaveChannel>)>& refuse) {
  auto channel = std::make_shared<SaveChannel>();
  auto* reactor = new Reactor(channel);
  {
    MutexLock lock(channel->mutex_);
    channel->reactor_ = reactor;
    channel->StartReadIfRoom();
  }
  try {
    if (serve != nullptr) {
      std::thread([channel, serve = std::move(serve)] { serve(channel); }).detach();
      return reactor;
    }
  } catch (const std::system_error&) {  // the process is at its limit of threads (pids)
  }
  refuse(channel);
  return reactor;
}

void SaveChannel::StartReadIfRoom() {
  if (reading_ || half_closed_ || reactor_ == nullptr || received_.size() >= kReadAhead) return;
  reading_ = true;
  reactor_->StartRead(&incoming_);
}

SaveChannel::Event SaveChannel::Next(grpc::ByteBuffer* message, absl::Time deadline) {
  MutexLock lock(mutex_);
  while (true) {
    if (broken_) return Event::kBroken;
    if (std::exchange(rung_, false)) return Event::kBell;
    if (!received_.empty()) {
      message->Swap(&received_.front());
      received_.pop_front();
      StartReadIfRoom();
      return Event::kMessage;
    }
    const absl::Time now = absl::Now();
    absl::Time until = deadline;
    if (half_closed_) {
      const absl::Time certain = half_closed_at_ + kCancelPatience;
      if (now >= certain) return Event::kHalfClosed;
      until = std::min(until, certain);
    }
    if (now >= deadline) return Event::kTimeout;
    changed_.WaitUntil(mutex_, until);
  }
}

void SaveChannel::Send(v1::SaveResponse message) {
  MutexLock lock(mutex_);
  if (broken_) return;
  if (!outgoing_.empty() && Replaceable(message) &&
      outgoing_.back().kind_case() == message.kind_case()) {
    outgoing_.back() = std::move(message);
  } else {
    outgoing_.push_back(std::move(message));
  }
  StartNextWrite();
}

void SaveChannel::StartNextWrite() {
  if (writing_ || reactor_ == nullptr) return;
  if (!outgoing_.empty() && !broken_) {
    in_flight_ = Serialized(outgoing_.front());
    outgoing_.pop_front();
    writing_ = true;
    reactor_->StartWrite(&in_flight_);
    return;
  }
  if (!final_status_.has_value()) return;
  Reactor* reactor = std::exchange(reactor_, nullptr);
  if (last_.has_value() && !broken_) {
    in_flight_ = Serialized(*last_);
    reactor->StartWriteAndFinish(&in_flight_, grpc::WriteOptions(), *final_status_);
  } else {
    reactor->Finish(*final_status_);
  }
}

void SaveChannel::Finish(grpc::Status status, std::optional<v1::SaveResponse> last) {
  MutexLock lock(mutex_);
  final_status_ = std::move(status);
  last_ = std::move(last);
  StartNextWrite();
}

void SaveChannel::Ring() {
  MutexLock lock(mutex_);
  rung_ = true;
  changed_.NotifyAll();
}

bool SaveChannel::broken() const {
  MutexLock lock(mutex_);
  return broken_;
}

void SaveChannel::OnReadDone(bool ok) {
  MutexLock lock(mutex_);
  reading_ = false;
  if (ok) {
    received_.emplace_back().Swap(&incoming_);
    StartReadIfRoom();
  } else {
    half_closed_ = true;
    half_closed_at_ = absl::Now();
  }
  changed_.NotifyAll();
}

void SaveChannel::OnWriteDone(bool ok) {
  MutexLock lock(mutex_);
  writing_ = false;
  if (!ok) broken_ = true;
  if (!ok) outgoing_.clear();
  StartNextWrite();
  changed_.NotifyAll();
}

void SaveChannel::OnCancel() {
  MutexLock lock(mutex_);
  broken_ = true;
  outgoing_.clear();
  changed_.NotifyAll();
}

}  // namespace ckpt
