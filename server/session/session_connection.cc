#include "server/session/session_connection.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/limits.h"

namespace ckpt {
namespace {

constexpr uint32_t kProtocolVersion = 1;
constexpr size_t kFramePrefixBytes = 4;
constexpr size_t kClientNameBytesMax = 100;
constexpr absl::Duration kTooManyPause = absl::Milliseconds(10);

std::string Framed(const v1::DaemonFrame& frame) {
  std::string bytes(kFramePrefixBytes, '\0');
  frame.AppendToString(&bytes);
  const uint32_t length = static_cast<uint32_t>(bytes.size() - kFramePrefixBytes);
  for (size_t i = 0; i < kFramePrefixBytes; ++i) {
    bytes[i] = static_cast<char>(length >> (8 * i));
  }
  return bytes;
}

uint32_t FrameLength(const std::string& bytes) {
  uint32_t length = 0;
  for (size_t i = 0; i < kFramePrefixBytes; ++i) {
    length |= static_cast<uint32_t>(static_cast<unsigned char>(bytes[i])) << (8 * i);
  }
  return length;
}

}  // namespace

SessionConnection::SessionConnection(int descriptor, PeerCredentials peer,
                                     absl::Duration send_patience)
    : peer_(std::move(peer)), send_patience_(send_patience), descriptor_(descriptor) {}

SessionConnection::~SessionConnection() { close(descriptor_); }

bool SessionConnection::closed() const {
  MutexLock lock(mutex_);
  return closed_;
}

absl::Status SessionConnection::Grant(FileId id, v1::FileAccess access, uint64_t length,
                                      int descriptor) {
  if (closed()) return absl::UnavailableError("the session has ended");
  v1::DaemonFrame frame;
  frame.mutable_grant()->set_file_id(id.bytes());
  frame.mutable_grant()->set_access(access);
  frame.mutable_grant()->set_length(length);
  return Send(frame, descriptor, send_patience_);
}

void SessionConnection::Revoke(FileId id, absl::AnyInvocable<void()> unmapped) {
  bool ask = false;
  bool ended = false;
  {
    MutexLock lock(mutex_);
    ended = closed_;
    if (!ended) {
      auto& waiting = revoked_[id];
      ask = waiting.empty();
      waiting.push_back(std::move(unmapped));
    }
  }
  if (ended) {
    unmapped();
    return;
  }
  if (!ask) return;
  v1::DaemonFrame frame;
  frame.mutable_revoke()->set_file_id(id.bytes());
  // A failure ends the session, which answers for the client.
  (void)Send(frame, -1, send_patience_);
}

uint64_t SessionConnection::OnClose(absl::AnyInvocable<void()> closed) {
  {
    MutexLock lock(mutex_);
    if (!closed_) {
      const uint64_t number = next_number_++;
      on_close_.emplace(number, std::move(closed));
      return number;
    }
  }
  closed();
  return 0;
}

void SessionConnection::ForgetOnClose(uint64_t number) {
  MutexLock lock(mutex_);
  on_close_.erase(number);
  // So that what the callback refers to may be destroyed after this call.
  while (running_callbacks_ && callback_thread_ != std::this_thread::get_id()) {
    callbacks_done_.Wait(mutex_);
  }
}

void SessionConnection::DropOnClose(uint64_t number) {
  MutexLock lock(mutex_);
  on_close_.erase(number);
}

void SessionConnection::End() {
  shutdown(descriptor_, SHUT_RDWR);  // wakes a sender that waits for the client to read
  {
    MutexLock lock(send_mutex_);
    broken_ = true;
  }
  std::map<uint64_t, absl::AnyInvocable<void()>> on_close;
  absl::flat_hash_map<FileId, std::vector<absl::AnyInvocable<void()>>> revoked;
  {
    MutexLock lock(mutex_);
    if (closed_) return;
    closed_ = true;
    on_close.swap(on_close_);
    revoked.swap(revoked_);
    running_callbacks_ = true;
    callback_thread_ = std::this_thread::get_id();
  }
  for (auto& [number, callback] : on_close) callback();
  for (auto& [id, callbacks] : revoked) {
    for (auto& callback : callbacks) callback();
  }
  MutexLock lock(mutex_);
  running_callbacks_ = false;
  callbacks_done_.NotifyAll();
}

absl::Status SessionConnection::Send(const v1::DaemonFrame& frame, int attached,
                                     absl::Duration patience) {
  const std::string bytes = Framed(frame);
  MutexLock lock(send_mutex_);
  if (broken_) return absl::UnavailableError("the session has ended");
  absl::Status status = SendLocked(bytes, attached, patience);
  if (!status.ok()) {
    broken_ = true;
    shutdown(descriptor_, SHUT_RDWR);  // the server's thread sees the end and ends the session
  }
  return status;
}

absl::Status SessionConnection::SendLocked(const std::string& bytes, int attached,
                                           absl::Duration patience) {
  const absl::Time deadline = absl::Now() + patience;
  size_t sent = 0;
  while (sent < bytes.size()) {
    iovec piece{const_cast<char*>(bytes.data()) + sent, bytes.size() - sent};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    if (attached >= 0 && sent == 0) {
      message.msg_control = control;
      message.msg_controllen = sizeof(control);
      cmsghdr* header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(sizeof(int));
      std::memcpy(CMSG_DATA(header), &attached, sizeof(int));
    }
    const ssize_t written = sendmsg(descriptor_, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (written > 0) {
      sent += static_cast<size_t>(written);
      continue;
    }
    if (written < 0 && errno == EINTR) continue;
    // Too many descriptors are in flight to clients that do not read. This socket has room, so that
    // waiting for it would not wait.
    const bool too_many = errno == ETOOMANYREFS;
    if (errno != EAGAIN && !too_many) {
      return absl::UnavailableError(absl::StrCat("the session has ended: ", std::strerror(errno)));
    }
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) {
      return absl::UnavailableError(
          too_many ? "too many descriptors are on their way to clients that do not read them"
                   : "the client does not read its session socket; cut off");
    }
    pollfd wanted{descriptor_, static_cast<short>(too_many ? 0 : POLLOUT), 0};
    const absl::Duration wait = too_many ? std::min(left, kTooManyPause) : left;
    poll(&wanted, 1, static_cast<int>(absl::ToInt64Milliseconds(wait)) + 1);
    if (wanted.revents & (POLLHUP | POLLERR)) {
      return absl::UnavailableError("the session has ended");
    }
  }
  return absl::OkStatus();
}

void SessionConnection::Refuse(const std::string& reason) {
  v1::DaemonFrame frame;
  frame.mutable_refused()->set_reason(reason);
  (void)Send(frame, -1, absl::ZeroDuration());
}

absl::Status SessionConnection::Receive(const std::string& daemon_version,
                                        const std::string& daemon_instance) {
  char buffer[16 << 10];
  // Without room for control messages the kernel drops descriptors that a client attaches.
  const ssize_t got = recv(descriptor_, buffer, sizeof(buffer), MSG_DONTWAIT);
  if (got == 0) return absl::CancelledError("the client closed its session");
  if (got < 0) {
    if (errno == EAGAIN || errno == EINTR) return absl::OkStatus();
    return absl::CancelledError(absl::StrCat("the session broke: ", std::strerror(errno)));
  }
  received_.append(buffer, static_cast<size_t>(got));
  size_t begin = 0;
  absl::Status status;
  while (status.ok() && received_.size() - begin >= kFramePrefixBytes) {
    const uint32_t length = FrameLength(received_.substr(begin, kFramePrefixBytes));
    if (length > kSessionFrameBytesMax) {
      status = absl::InvalidArgumentError(absl::StrCat("a frame of ", length, " bytes; at most ",
                                                       kSessionFrameBytesMax, " are allowed"));
      break;
    }
    if (received_.size() - begin < kFramePrefixBytes + length) break;
    v1::ClientFrame frame;
    if (frame.ParseFromArray(received_.data() + begin + kFramePrefixBytes,
                             static_cast<int>(length))) {
      status = HandleFrame(frame, daemon_version, daemon_instance);
    } else {
      status = absl::InvalidArgumentError("a frame that is no ClientFrame");
    }
    begin += kFramePrefixBytes + length;
  }
  received_.erase(0, begin);
  return status;
}

absl::Status SessionConnection::HandleFrame(const v1::ClientFrame& frame,
                                            const std::string& daemon_version,
                                            const std::string& daemon_instance) {
  if (!greeted_) {
    if (!frame.has_hello()) {
      return absl::FailedPreconditionError("the first frame of a session must be hello");
    }
    if (frame.hello().protocol_version() != kProtocolVersion) {
      return absl::FailedPreconditionError(absl::StrCat(
          "this daemon speaks session protocol ", kProtocolVersion, ", the client asked for ",
          frame.hello().protocol_version(), ": use a client library of the daemon's version"));
    }
    if (frame.hello().client_name().size() > kClientNameBytesMax) {
      return absl::InvalidArgumentError(
          absl::StrCat("client_name is longer than ", kClientNameBytesMax, " bytes"));
    }
    greeted_ = true;
    v1::DaemonFrame answer;
    v1::Welcome* welcome = answer.mutable_welcome();
    welcome->set_protocol_version(kProtocolVersion);
    welcome->set_session_token(token_.bytes());
    welcome->set_daemon_version(daemon_version);
    welcome->set_daemon_instance(daemon_instance);
    return Send(answer, -1, absl::ZeroDuration());
  }
  if (!frame.has_unmapped()) {
    return absl::FailedPreconditionError("hello was sent already; only unmapped may follow");
  }
  absl::StatusOr<FileId> id = FileId::FromBytes(frame.unmapped().file_id(), "unmapped.file_id");
  if (!id.ok()) return id.status();
  std::vector<absl::AnyInvocable<void()>> callbacks;
  {
    MutexLock lock(mutex_);
    auto found = revoked_.find(*id);
    if (found == revoked_.end()) return absl::OkStatus();  // nobody asked for it: no harm
    callbacks = std::move(found->second);
    revoked_.erase(found);
    running_callbacks_ = true;
    callback_thread_ = std::this_thread::get_id();
  }
  for (auto& callback : callbacks) callback();
  MutexLock lock(mutex_);
  running_callbacks_ = false;
  callbacks_done_.NotifyAll();
  return absl::OkStatus();
}

}  // namespace ckpt
