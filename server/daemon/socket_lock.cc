#include "server/daemon/socket_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace ckpt {
namespace {

// The pid that the holder wrote; empty where it has not yet.
std::string ReadHolder(int descriptor) {
  char text[32] = {};
  const ssize_t got = ::pread(descriptor, text, sizeof(text) - 1, 0);
  int pid = 0;
  if (got <= 0 || !absl::SimpleAtoi(text, &pid)) return "";
  return absl::StrCat(" (pid ", pid, ")");
}

absl::Status RemoveStale(const std::string& socket) {
  struct stat status;
  if (::lstat(socket.c_str(), &status) != 0) return absl::OkStatus();
  if (!S_ISSOCK(status.st_mode)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--socket: ", socket, " is there already and is no socket; move it away"));
  }
  if (::unlink(socket.c_str()) != 0 && errno != ENOENT) {
    return absl::InternalError(
        absl::StrCat("stale socket ", socket, " cannot be removed: ", std::strerror(errno)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<SocketLock>> SocketLock::Take(const std::string& socket) {
  const std::string path = socket + ".lock";
  for (;;) {
    const int descriptor =
        ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR);
    if (descriptor < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("--socket: lock file ", path, ": ", std::strerror(errno)));
    }
    std::unique_ptr<SocketLock> lock(new SocketLock(path, descriptor));
    if (::flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK) {
        return absl::InternalError(absl::StrCat("lock file ", path, ": ", std::strerror(errno)));
      }
      return absl::FailedPreconditionError(
          absl::StrCat("another ckptd", ReadHolder(descriptor), " serves ", socket,
                       "; stop it, or give this one another --socket"));
    }
    struct stat status;
    if (::fstat(descriptor, &status) != 0) {
      return absl::InternalError(absl::StrCat("lock file ", path, ": ", std::strerror(errno)));
    }
    if (status.st_nlink == 0) continue;  // discarded by its holder: a lock of nothing
    lock->had_holder_ = status.st_size > 0;
    if (absl::Status stale = RemoveStale(socket); !stale.ok()) {
      lock->Discard();
      return stale;
    }
    const std::string pid = absl::StrCat(::getpid(), "\n");
    if (::ftruncate(descriptor, 0) != 0 ||
        ::pwrite(descriptor, pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
      return absl::InternalError(
          absl::StrCat("lock file ", path, " cannot be written: ", std::strerror(errno)));
    }
    return lock;
  }
}

void SocketLock::Discard() {
  if (!had_holder_) ::unlink(path_.c_str());
}

SocketLock::~SocketLock() { ::close(descriptor_); }

}  // namespace ckpt
