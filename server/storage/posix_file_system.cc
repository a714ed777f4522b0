// The real file system. Direct I/O is switched on after the file is made, so that a file system
// without it just leaves it off.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/storage/file_system.h"

namespace ckpt {
namespace {

constexpr uint64_t kDirectAlignment = 4096;

absl::Status ErrnoStatus(absl::string_view call, const std::string& path, int error) {
  char buffer[128];
  const std::string text =
      absl::StrCat(call, " failed: ", strerror_r(error, buffer, sizeof(buffer)), ": ", path);
  switch (error) {
    case ENOENT:
      return absl::NotFoundError(text);
    case EEXIST:
    case ENOTEMPTY:
      return absl::AlreadyExistsError(text);
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return absl::ResourceExhaustedError(text);
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::PermissionDeniedError(text);
    default:
      return absl::InternalError(text);
  }
}

// Of an open or a read. What the device cannot read, and what the file system has found broken on
// it (EUCLEAN, EBADMSG), is lost.
absl::Status ReadError(absl::string_view call, const std::string& path, int error) {
  absl::Status status = ErrnoStatus(call, path, error);
  if (error != EIO && error != EUCLEAN && error != EBADMSG) return status;
  return absl::DataLossError(absl::StrCat("the device cannot read: ", status.message()));
}

// The call, again while a signal interrupts it. A sync, too: EINTR says nothing of the data, unlike
// any other error.
template <typename Call>
auto Uninterrupted(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

class PosixWritableFile : public WritableFile {
 public:
  PosixWritableFile(std::string path, int descriptor, bool direct)
      : path_(std::move(path)), descriptor_(descriptor), direct_(direct) {}
  ~PosixWritableFile() override {
    if (descriptor_ >= 0) close(descriptor_);
  }

  absl::Status WriteAt(uint64_t offset, const void* data, size_t bytes) override {
    const char* from = static_cast<const char*>(data);
    if (direct_ && ((offset | bytes | reinterpret_cast<uintptr_t>(from)) % kDirectAlignment) != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("direct write is not aligned: offset ", offset, ", ", bytes, " bytes"));
    }
    while (bytes > 0) {
      const ssize_t done = Uninterrupted(
          [&] { return pwrite(descriptor_, from, bytes, static_cast<off_t>(offset)); });
      if (done < 0) return ErrnoStatus("pwrite", path_, errno);
      if (done == 0) return ErrnoStatus("pwrite", path_, ENOSPC);
      from += done;
      offset += static_cast<uint64_t>(done);
      bytes -= static_cast<size_t>(done);
    }
    return absl::OkStatus();
  }

  absl::Status Truncate(uint64_t bytes) override {
    if (Uninterrupted([&] { return ftruncate(descriptor_, static_cast<off_t>(bytes)); }) != 0) {
      return ErrnoStatus("ftruncate", path_, errno);
    }
    return absl::OkStatus();
  }

  absl::Status Sync() override {
    if (Uninterrupted([&] { return fdatasync(descriptor_); }) != 0) {
      return ErrnoStatus("fdatasync", path_, errno);
    }
    return absl::OkStatus();
  }

  absl::Status Close() override {
    const int descriptor = std::exchange(descriptor_, -1);
    if (descriptor >= 0 && close(descriptor) != 0 && errno != EINTR) {
      return ErrnoStatus("close", path_, errno);
    }
    return absl::OkStatus();
  }

 private:
  const std::string path_;
  int descriptor_;
  const bool direct_;
};

class PosixReadableFile : public ReadableFile {
 public:
  PosixReadableFile(std::string path, int descriptor, uint64_t size)
      : path_(std::move(path)), descriptor_(descriptor), size_(size) {}
  ~PosixReadableFile() override { close(descriptor_); }

  absl::Status ReadAt(uint64_t offset, void* data, size_t bytes) const override {
    char* to = static_cast<char*>(data);
    while (bytes > 0) {
      const ssize_t done = Uninterrupted(
          [&] { return pread(descriptor_, to, bytes, static_cast<off_t>(offset)); });
      if (done < 0) {
        return ReadError(absl::StrCat("pread at offset ", offset), path_, errno);
      }
      if (done == 0) {
        return absl::DataLossError(absl::StrCat("the file ends too early: ", path_, " at offset ",
                                                offset, ", ", bytes, " bytes are missing"));
      }
      to += done;
      offset += static_cast<uint64_t>(done);
      bytes -= static_cast<size_t>(done);
    }
    return absl::OkStatus();
  }

  uint64_t size() const override { return size_; }
  int descriptor() const override { return descriptor_; }

 private:
  const std::string path_;
  const int descriptor_;
  const uint64_t size_;
};

absl::Status Preallocate(const std::string& path, int descriptor, uint64_t bytes) {
  const int result =
      Uninterrupted([&] { return fallocate(descriptor, 0, 0, static_cast<off_t>(bytes)); });
  if (result == 0 || errno == EOPNOTSUPP || errno == ENOSYS) return absl::OkStatus();
  return ErrnoStatus("fallocate", path, errno);
}

class PosixFiles : public FileSystem {
 public:
  absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path,
                                                       const CreateFileOptions& options) override {
    const int descriptor = Uninterrupted(
        [&] { return open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600); });
    if (descriptor < 0) return ErrnoStatus("create", path, errno);
    bool direct = false;
    if (options.direct) {
      const int flags = fcntl(descriptor, F_GETFL);
      direct = flags >= 0 && fcntl(descriptor, F_SETFL, flags | O_DIRECT) == 0;
    }
    auto file = std::make_unique<PosixWritableFile>(path, descriptor, direct);
    if (options.preallocate_bytes > 0) {
      absl::Status reserved = Preallocate(path, descriptor, options.preallocate_bytes);
      if (!reserved.ok()) {
        Unlink(path).IgnoreError();
        return reserved;
      }
    }
    return file;
  }

  absl::StatusOr<std::unique_ptr<ReadableFile>> OpenRead(const std::string& path) override {
    const int descriptor =
        Uninterrupted([&] { return open(path.c_str(), O_RDONLY | O_CLOEXEC); });
    if (descriptor < 0) return ReadError("open", path, errno);
    struct stat status;
    if (fstat(descriptor, &status) != 0) {
      const int error = errno;
      close(descriptor);
      return ReadError("fstat", path, error);
    }
    if (!S_ISREG(status.st_mode)) {
      close(descriptor);
      return absl::DataLossError(absl::StrCat("not a plain file: ", path));
    }
    return std::make_unique<PosixReadableFile>(path, descriptor,
                                               static_cast<uint64_t>(status.st_size));
  }

  absl::Status Rename(const std::string& from, const std::string& to) override {
    if (Uninterrupted([&] { return rename(from.c_str(), to.c_str()); }) != 0) {
      return ErrnoStatus("rename", absl::StrCat(from, " to ", to), errno);
    }
    return absl::OkStatus();
  }

  absl::Status Unlink(const std::string& path) override {
    if (Uninterrupted([&] { return unlink(path.c_str()); }) != 0) {
      return ErrnoStatus("unlink", path, errno);
    }
    return absl::OkStatus();
  }

  absl::Status MakeFolder(const std::string& path) override {
    if (Uninterrupted([&] { return mkdir(path.c_str(), 0700); }) == 0) return absl::OkStatus();
    const int error = errno;
    struct stat status;
    if (error == EEXIST && stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) {
      return absl::OkStatus();
    }
    return ErrnoStatus("mkdir", path, error);
  }

  absl::Status RemoveFolder(const std::string& path) override {
    if (Uninterrupted([&] { return rmdir(path.c_str()); }) != 0) {
      return ErrnoStatus("rmdir", path, errno);
    }
    return absl::OkStatus();
  }

  absl::Status SyncFolder(const std::string& path) override {
    const int descriptor =
        Uninterrupted([&] { return open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); });
    if (descriptor < 0) return ErrnoStatus("open folder", path, errno);
    const int result = Uninterrupted([&] { return fsync(descriptor); });
    const int error = errno;
    close(descriptor);
    if (result != 0) return ErrnoStatus("fsync folder", path, error);
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<std::string>> List(const std::string& path) override {
    DIR* folder = opendir(path.c_str());
    if (folder == nullptr) return ErrnoStatus("opendir", path, errno);
    std::vector<std::string> entries;
    errno = 0;
    while (const dirent* entry = readdir(folder)) {
      const absl::string_view name = entry->d_name;
      if (name != "." && name != "..") entries.emplace_back(name);
      errno = 0;
    }
    const int error = errno;
    closedir(folder);
    if (error != 0) return ErrnoStatus("readdir", path, error);
    return entries;
  }

  absl::StatusOr<DiskSpace> Space(const std::string& path) override {
    struct statvfs status;
    if (statvfs(path.c_str(), &status) != 0) return ErrnoStatus("statvfs", path, errno);
    return DiskSpace{.free_bytes = uint64_t{status.f_bavail} * status.f_frsize,
                     .total_bytes = uint64_t{status.f_blocks} * status.f_frsize};
  }
};

}  // namespace

FileSystem* PosixFileSystem() {
  static PosixFiles* const files = new PosixFiles;
  return files;
}

}  // namespace ckpt
