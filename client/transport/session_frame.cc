#include "client/transport/session_frame.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "common/limits.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

absl::Status Closed(absl::string_view why) {
  return absl::UnavailableError(absl::StrCat("the daemon closed the session: ", why));
}

// Keeps the one descriptor of a message; closes any further ones.
absl::Status TakeDescriptors(msghdr& message, Descriptor& into) {
  const bool truncated = (message.msg_flags & MSG_CTRUNC) != 0;
  bool any = false;
  bool extra = truncated;
  for (cmsghdr* control = CMSG_FIRSTHDR(&message); control != nullptr;
       control = CMSG_NXTHDR(&message, control)) {
    if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int number;
      memcpy(&number, CMSG_DATA(control) + i * sizeof(int), sizeof(int));
      Descriptor descriptor(number);
      any = true;
      if (into.valid()) {
        extra = true;
      } else {
        into = std::move(descriptor);
      }
    }
  }
  if (truncated && !any) {
    return absl::ResourceExhaustedError(
        "the daemon sent a file, but this process can have no more open files: raise its limit "
        "(ulimit -n)");
  }
  if (extra) return absl::InternalError("the daemon sent more than one descriptor with a frame");
  return absl::OkStatus();
}

absl::Status ReceiveExactly(int socket, char* data, size_t bytes, Descriptor& descriptor) {
  while (bytes > 0) {
    iovec io{data, bytes};
    alignas(cmsghdr) char control[CMSG_SPACE(4 * sizeof(int))];
    msghdr message{};
    message.msg_iov = &io;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    const ssize_t got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Closed(strerror(errno));
    CKPT_RETURN_IF_ERROR(TakeDescriptors(message, descriptor));
    if (got == 0) return Closed("end of stream");
    data += got;
    bytes -= static_cast<size_t>(got);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ReceivedFrame> ReceiveFrame(int socket) {
  ReceivedFrame received;
  unsigned char prefix[4];
  CKPT_RETURN_IF_ERROR(
      ReceiveExactly(socket, reinterpret_cast<char*>(prefix), 4, received.descriptor));
  const uint32_t length = prefix[0] | prefix[1] << 8 | prefix[2] << 16 | uint32_t{prefix[3]} << 24;
  if (length > kSessionFrameBytesMax) {
    return absl::InternalError(
        absl::StrCat("the daemon sent a session frame of ", length, " bytes"));
  }
  std::string body(length, '\0');
  Descriptor stray;
  CKPT_RETURN_IF_ERROR(ReceiveExactly(socket, body.data(), length, stray));
  if (!received.frame.ParseFromString(body)) {
    return absl::InternalError("the daemon sent a session frame that does not parse");
  }
  if (stray.valid() || received.frame.has_grant() != received.descriptor.valid()) {
    return absl::InternalError("a descriptor came without a grant, or a grant without one");
  }
  return received;
}

absl::Status SendFrame(int socket, const v1::ClientFrame& frame) {
  const std::string body = frame.SerializeAsString();
  const auto length = static_cast<uint32_t>(body.size());
  std::string bytes;
  for (int shift = 0; shift < 32; shift += 8) bytes.push_back(static_cast<char>(length >> shift));
  bytes += body;
  for (size_t sent = 0; sent < bytes.size();) {
    const ssize_t now = send(socket, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (now < 0 && errno == EINTR) continue;
    if (now < 0) return Closed(strerror(errno));
    sent += static_cast<size_t>(now);
  }
  return absl::OkStatus();
}

absl::StatusOr<Descriptor> ConnectUnixSocket(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat("a socket path may have at most ",
                                                   sizeof(address.sun_path) - 1, " bytes: ", path));
  }
  memcpy(address.sun_path, path.data(), path.size());
  Descriptor descriptor(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!descriptor.valid()) return absl::InternalError(strerror(errno));
  while (connect(descriptor.number(), reinterpret_cast<const sockaddr*>(&address),
                 sizeof(address)) != 0) {
    if (errno == EINTR) continue;
    const std::string text = absl::StrCat(path, ": ", strerror(errno));
    if (errno == EACCES || errno == EPERM) return absl::PermissionDeniedError(text);
    if (errno == ENOENT) return absl::NotFoundError(text);
    return absl::UnavailableError(text);
  }
  return descriptor;
}

}  // namespace ckpt
