// The thread of the descriptor socket. Accepts, reads frames, notices that clients are gone. A
// client gets 10 s for its hello; one that sends anything wrong is told why and cut off. Nothing
// that a client does makes this thread wait.
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <thread>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "common/mutex.h"
#include "common/status_macros.h"
#include "server/observe/log.h"
#include "server/session/session.h"
#include "server/session/session_connection.h"

namespace ckpt {
namespace {

constexpr absl::Duration kHelloPatience = absl::Seconds(10);
constexpr int kPollMilliseconds = 1000;
constexpr int kAcceptPauseMilliseconds = 50;

class Server : public SessionServer {
 public:
  explicit Server(SessionServerOptions options) : options_(std::move(options)) {}

  ~Server() override {
    stopping_ = true;
    const uint64_t one = 1;
    if (wake_ >= 0) (void)!write(wake_, &one, sizeof(one));
    if (thread_.joinable()) thread_.join();
    for (int descriptor : {listener_, epoll_, wake_}) {
      if (descriptor >= 0) close(descriptor);
    }
    if (listener_ >= 0) unlink(options_.socket_path.c_str());
  }

  absl::Status Start() {
    CKPT_ASSIGN_OR_RETURN(listener_,
                          ListenOnUnixSocket(options_.socket_path, options_.socket_mode));
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    wake_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (epoll_ < 0 || wake_ < 0) {
      return absl::InternalError(absl::StrCat("cannot set up epoll for ", options_.socket_path,
                                              ": ", std::strerror(errno)));
    }
    Watch(listener_, EPOLLIN);
    Watch(wake_, EPOLLIN);
    thread_ = std::thread([this] { Run(); });
    return absl::OkStatus();
  }

  std::shared_ptr<Session> Find(absl::string_view token) override {
    absl::StatusOr<SessionToken> id = SessionToken::FromBytes(token, "session_token");
    if (!id.ok()) return nullptr;
    MutexLock lock(mutex_);
    auto found = sessions_.find(*id);
    if (found == sessions_.end()) return nullptr;
    return found->second;
  }

  size_t count() const override {
    MutexLock lock(mutex_);
    return sessions_.size();
  }

 private:
  void Watch(int descriptor, uint32_t events) {
    epoll_event event{};
    event.events = events;
    event.data.fd = descriptor;
    epoll_ctl(epoll_, EPOLL_CTL_ADD, descriptor, &event);
  }

  void Run() {
    while (!stopping_) {
      epoll_event events[64];
      const int count = epoll_wait(
          epoll_, events, 64,
          accept_paused_ ? kAcceptPauseMilliseconds : (ungreeted_ > 0 ? kPollMilliseconds : -1));
      if (accept_paused_) {
        accept_paused_ = false;
        Watch(listener_, EPOLLIN);
      }
      for (int i = 0; i < count; ++i) {
        const int descriptor = events[i].data.fd;
        if (descriptor == listener_) {
          Accept();
        } else if (descriptor != wake_) {
          Serve(descriptor);
        }
      }
      if (ungreeted_ > 0) CutOffTheSilent();
    }
    while (!connections_.empty()) End(connections_.begin()->first, "");
  }

  void Accept() {
    const int descriptor = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (descriptor < 0) {
      if (AcceptMayWorkLater(errno)) {
        // Out of descriptors: let those who are here go on, look again soon.
        observe::Warning("a session waits: this process can take no more connections",
                         {{"error", std::strerror(errno)}});
        epoll_ctl(epoll_, EPOLL_CTL_DEL, listener_, nullptr);
        accept_paused_ = true;
      }
      return;
    }
    absl::StatusOr<PeerCredentials> peer = PeerOf(descriptor);
    absl::Status admitted = peer.status();
    if (admitted.ok() && options_.authorize) admitted = options_.authorize(*peer);
    if (admitted.ok() && connections_.size() >= options_.sessions_max) {
      admitted = absl::ResourceExhaustedError(
          absl::StrCat("the daemon has its greatest number of sessions (", options_.sessions_max,
                       "); raise --session-max or close some"));
    }
    auto connection = std::make_shared<SessionConnection>(
        descriptor, peer.ok() ? *std::move(peer) : PeerCredentials(), options_.send_patience);
    if (!admitted.ok()) {
      connection->Refuse(std::string(admitted.message()));
      return;
    }
    connections_.emplace(descriptor, connection);
    ++ungreeted_;
    Watch(descriptor, EPOLLIN | EPOLLRDHUP);
  }

  void Serve(int descriptor) {
    auto found = connections_.find(descriptor);
    if (found == connections_.end()) return;
    const std::shared_ptr<SessionConnection> connection = found->second;
    const bool greeted = connection->greeted();
    if (!greeted) {
      // Known before the welcome is sent: the client may use its token as soon as it has read it.
      MutexLock lock(mutex_);
      sessions_[connection->token()] = connection;
    }
    const absl::Status status = connection->Receive(options_.daemon_version, instance_);
    if (!greeted) {
      if (connection->greeted()) {
        --ungreeted_;
      } else {
        MutexLock lock(mutex_);
        sessions_.erase(connection->token());
      }
    }
    if (!status.ok()) {
      End(descriptor, absl::IsCancelled(status) ? "" : std::string(status.message()));
    }
  }

  void CutOffTheSilent() {
    const absl::Time limit = absl::Now() - kHelloPatience;
    std::vector<int> silent;
    for (const auto& [descriptor, connection] : connections_) {
      if (!connection->greeted() && connection->connected_at() < limit)
        silent.push_back(descriptor);
    }
    for (int descriptor : silent) End(descriptor, "no hello within 10 s");
  }

  // `refusal`: told to the client where it is not empty.
  void End(int descriptor, const std::string& refusal) {
    auto found = connections_.find(descriptor);
    const std::shared_ptr<SessionConnection> connection = std::move(found->second);
    connections_.erase(found);
    epoll_ctl(epoll_, EPOLL_CTL_DEL, descriptor, nullptr);
    if (!connection->greeted()) --ungreeted_;
    {
      MutexLock lock(mutex_);
      sessions_.erase(connection->token());
    }
    if (!refusal.empty()) connection->Refuse(refusal);
    connection->End();
  }

  const SessionServerOptions options_;
  const std::string instance_ = SessionToken::Random().bytes();
  int listener_ = -1;
  int epoll_ = -1;
  int wake_ = -1;
  std::atomic<bool> stopping_{false};
  std::thread thread_;

  // The thread's own.
  absl::flat_hash_map<int, std::shared_ptr<SessionConnection>> connections_;
  size_t ungreeted_ = 0;
  bool accept_paused_ = false;

  mutable Mutex mutex_;
  absl::flat_hash_map<SessionToken, std::shared_ptr<SessionConnection>> sessions_
      ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::StatusOr<std::unique_ptr<SessionServer>> SessionServer::Start(SessionServerOptions options) {
  auto server = std::make_unique<Server>(std::move(options));
  CKPT_RETURN_IF_ERROR(server->Start());
  return server;
}

}  // namespace ckpt
