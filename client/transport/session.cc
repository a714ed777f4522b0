#include "client/transport/session.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/memory/worker_threads.h"
#include "client/transport/session_frame.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

constexpr uint32_t kProtocolVersion = 1;
constexpr size_t kClientNameBytesMax = 100;
constexpr int kIdleCheckMilliseconds = 1000;  // while read-only mappings are kept

// Bounds the handshake and every send; the receiving thread waits in poll.
void SetTimeouts(int socket, int seconds) {
  const timeval time{seconds, 0};
  setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof(time));
  setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof(time));
}

}  // namespace

absl::StatusOr<std::shared_ptr<Session>> Session::Connect(const std::string& socket_path,
                                                          const std::string& client_name) {
  std::shared_ptr<Session> session = SharedUnlessForked(new Session);
  CKPT_ASSIGN_OR_RETURN(session->socket_, ConnectUnixSocket(socket_path + ".fd"));
  SetTimeouts(session->socket_.number(), 10);
  CKPT_RETURN_IF_ERROR(session->Greet(client_name));
  const int socket = session->socket_.number();
  session->files_ = std::make_shared<GrantedFiles>([socket](FileId id) {
    v1::ClientFrame frame;
    frame.mutable_unmapped()->set_file_id(id.bytes());
    SendFrame(socket, frame).IgnoreError();  // a broken session is noticed by its thread
  });
  CKPT_ASSIGN_OR_RETURN(session->thread_,
                        StartThread("ckpt-session", [raw = session.get()] { raw->Receive(); }));
  return session;
}

absl::Status Session::Greet(const std::string& client_name) {
  v1::ClientFrame frame;
  frame.mutable_hello()->set_protocol_version(kProtocolVersion);
  frame.mutable_hello()->set_client_name(client_name.substr(0, kClientNameBytesMax));
  CKPT_RETURN_IF_ERROR(SendFrame(socket_.number(), frame));
  CKPT_ASSIGN_OR_RETURN(ReceivedFrame answer, ReceiveFrame(socket_.number()));
  if (answer.frame.has_refused()) {
    return absl::PermissionDeniedError(
        absl::StrCat("the daemon refused the session: ", answer.frame.refused().reason()));
  }
  if (!answer.frame.has_welcome()) {
    return absl::InternalError("the daemon's first session frame was no welcome");
  }
  const v1::Welcome& welcome = answer.frame.welcome();
  if (welcome.protocol_version() != kProtocolVersion) {
    return absl::FailedPreconditionError(absl::StrCat("the daemon speaks session protocol ",
                                                      welcome.protocol_version(), ", this client ",
                                                      kProtocolVersion));
  }
  token_ = welcome.session_token();
  daemon_version_ = welcome.daemon_version();
  daemon_instance_ = welcome.daemon_instance();
  return absl::OkStatus();
}

Session::~Session() {
  if (socket_.valid()) shutdown(socket_.number(), SHUT_RDWR);
  if (thread_.joinable()) thread_.join();
  if (files_ != nullptr) files_->Close(absl::CancelledError("the session was closed"));
}

bool Session::broken() const {
  if (broken_.load(std::memory_order_acquire)) return true;
  pollfd peer{socket_.number(), POLLRDHUP, 0};  // the session's thread may not have run yet
  return poll(&peer, 1, 0) > 0;
}

void Session::Receive() {
  absl::Status status;
  while (status.ok()) {
    pollfd ready{socket_.number(), POLLIN, 0};
    const int count = poll(&ready, 1, files_->read_count() > 0 ? kIdleCheckMilliseconds : -1);
    if (count < 0 && errno != EINTR) status = absl::InternalError("poll failed");
    if (count == 0) files_->DropIdle(absl::Now());
    if (count > 0) status = ReceiveOne();
  }
  broken_.store(true, std::memory_order_release);
  files_->Close(status);
}

absl::Status Session::ReceiveOne() {
  CKPT_ASSIGN_OR_RETURN(ReceivedFrame received, ReceiveFrame(socket_.number()));
  switch (received.frame.kind_case()) {
    case v1::DaemonFrame::kGrant:
      return files_->Grant(received.frame.grant(), std::move(received.descriptor));
    case v1::DaemonFrame::kRevoke: {
      CKPT_ASSIGN_OR_RETURN(const FileId id, FileId::FromBytes(received.frame.revoke().file_id(),
                                                               "a revoked file's id"));
      files_->Revoke(id);
      return absl::OkStatus();
    }
    case v1::DaemonFrame::kRefused:
      return absl::PermissionDeniedError(
          absl::StrCat("the daemon ended the session: ", received.frame.refused().reason()));
    default:
      return absl::OkStatus();  // a newer daemon's frame
  }
}

}  // namespace ckpt
