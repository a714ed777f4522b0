#include "client/cli/output_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/byte_size.h"
#include "common/ids.h"
#include "common/status_macros.h"

namespace ckpt::cli {
namespace {

absl::Status ExistsAlready(const std::string& path) {
  return absl::AlreadyExistsError(absl::StrCat(path, " exists: give --force to replace it"));
}

absl::Status FileError(int error, absl::string_view what, const std::string& path) {
  const std::string text = absl::StrCat(what, " ", path);
  if (error == ENOSPC || error == EDQUOT || error == EFBIG) {
    return absl::ResourceExhaustedError(absl::StrCat(text, ": no room on the disk"));
  }
  return absl::ErrnoToStatus(error, text);
}

// As rename(), but EEXIST where the name is taken. A hard link is asked for first: more file
// systems have them than know RENAME_NOREPLACE, but not all (FAT, some of FUSE).
int MoveToFreeName(const char* from, const char* to) {
  if (link(from, to) == 0) {
    unlink(from);
    return 0;
  }
  if (errno != EPERM && errno != EOPNOTSUPP && errno != ENOSYS) return -1;
  return renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE);
}

}  // namespace

std::string FolderOf(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

absl::Status CheckRoom(const std::string& folder, uint64_t bytes) {
  struct statvfs space {};
  if (statvfs(folder.c_str(), &space) != 0) return FileError(errno, "looking at", folder);
  const uint64_t free = static_cast<uint64_t>(space.f_bavail) * space.f_frsize;
  if (bytes <= free) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat("the export needs ", PrintByteSize(bytes),
                                                   ", but ", folder, " has ", PrintByteSize(free),
                                                   " free"));
}

absl::Status CheckReplaceable(const std::string& path, bool replace) {
  struct stat status {};
  if (lstat(path.c_str(), &status) != 0) return absl::OkStatus();
  if (S_ISDIR(status.st_mode)) {
    return absl::AlreadyExistsError(absl::StrCat(path, " is a directory"));
  }
  if (S_ISLNK(status.st_mode)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is a symbolic link: name the file that it points to"));
  }
  if (!S_ISREG(status.st_mode)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is not a regular file and is not replaced"));
  }
  return replace ? absl::OkStatus() : ExistsAlready(path);
}

absl::StatusOr<OutputFile> OutputFile::Create(const std::string& path, bool replace) {
  CKPT_RETURN_IF_ERROR(CheckReplaceable(path, replace));
  std::string temporary = absl::StrCat(path, ".", FileId::Random().hex().substr(0, 12), ".partial");
  UnfinishedPath unfinished(temporary);
  const int descriptor =
      open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (descriptor < 0) return FileError(errno, "creating", temporary);
  return OutputFile(path, std::move(temporary), std::move(unfinished), descriptor, replace);
}

OutputFile::OutputFile(std::string path, std::string temporary, UnfinishedPath unfinished,
                       int descriptor, bool replace)
    : path_(std::move(path)),
      temporary_(std::move(temporary)),
      unfinished_(std::move(unfinished)),
      descriptor_(descriptor),
      replace_(replace) {}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::exchange(other.temporary_, "")),
      unfinished_(std::move(other.unfinished_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      replace_(other.replace_) {}

OutputFile::~OutputFile() {
  if (descriptor_ >= 0) close(descriptor_);
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

absl::Status OutputFile::WriteAt(uint64_t offset, absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written =
        pwrite(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return FileError(errno, "writing", temporary_);
    offset += static_cast<uint64_t>(written);
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

absl::Status OutputFile::SyncAndClose() {
  if (fsync(descriptor_) != 0) return FileError(errno, "syncing", temporary_);
  return close(std::exchange(descriptor_, -1)) == 0 ? absl::OkStatus()
                                                    : FileError(errno, "closing", temporary_);
}

absl::Status OutputFile::Publish() {
  if (replace_) {
    CKPT_RETURN_IF_ERROR(CheckReplaceable(path_, replace_));
    if (rename(temporary_.c_str(), path_.c_str()) != 0)
      return FileError(errno, "renaming to", path_);
  } else if (MoveToFreeName(temporary_.c_str(), path_.c_str()) != 0) {
    return errno == EEXIST ? ExistsAlready(path_) : FileError(errno, "renaming to", path_);
  }
  temporary_.clear();
  unfinished_.Forget();
  const std::string folder = FolderOf(path_);
  const int descriptor = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return FileError(errno, "opening", folder);
  const int synced = fsync(descriptor);
  const int error = errno;
  close(descriptor);
  return synced == 0 ? absl::OkStatus() : FileError(error, "syncing", folder);
}

}  // namespace ckpt::cli
