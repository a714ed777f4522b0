#include "server/daemon/unix_listener.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "server/observe/log.h"

namespace ckpt {
namespace {

constexpr int kAcceptPauseMilliseconds = 50;

}  // namespace

absl::StatusOr<std::unique_ptr<UnixListener>> UnixListener::Start(UnixListenerOptions options) {
  const int wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake < 0) {
    return absl::InternalError(
        absl::StrCat("cannot make an eventfd for ", options.path, ": ", std::strerror(errno)));
  }
  absl::StatusOr<int> listener = ListenOnUnixSocket(options.path, options.mode);
  if (!listener.ok()) {
    close(wake);
    return listener.status();
  }
  return std::unique_ptr<UnixListener>(new UnixListener(std::move(options), *listener, wake));
}

UnixListener::UnixListener(UnixListenerOptions options, int listener, int wake)
    : options_(std::move(options)), listener_(listener), wake_(wake), thread_([this] { Run(); }) {}

UnixListener::~UnixListener() {
  stopping_ = true;
  const uint64_t one = 1;
  (void)!write(wake_, &one, sizeof(one));
  thread_.join();
  close(listener_);
  close(wake_);
  unlink(options_.path.c_str());
}

void UnixListener::Run() {
  bool pause = false;
  while (!stopping_) {
    // While it pauses it does not look at the listener, which stays readable.
    pollfd wanted[] = {{wake_, POLLIN, 0}, {pause ? -1 : listener_, POLLIN, 0}};
    poll(wanted, 2, pause ? kAcceptPauseMilliseconds : -1);
    if (!stopping_) pause = !AcceptAll();
  }
}

bool UnixListener::AcceptAll() {
  while (!stopping_) {
    const int connection = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (connection < 0) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (!AcceptMayWorkLater(errno)) return true;
      observe::Warning("a caller waits: this process can take no more connections",
                       {{"error", std::strerror(errno)}});
      return false;
    }
    const absl::StatusOr<PeerCredentials> peer = PeerOf(connection);
    absl::Status admitted = peer.status();
    if (admitted.ok() && options_.authorize) admitted = options_.authorize(*peer);
    if (admitted.ok()) {
      options_.connected(connection);
    } else {
      close(connection);
    }
  }
  return true;
}

}  // namespace ckpt
