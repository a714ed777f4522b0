#include "client/cli/input_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace ckpt::cli {

absl::StatusOr<std::shared_ptr<const InputFile>> InputFile::Open(const std::string& path) {
  // O_NONBLOCK: a pipe must not hang us before it is refused.
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return absl::ErrnoToStatus(errno, absl::StrCat("opening ", path));
  struct stat status {};
  if (fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(descriptor);
    return absl::InvalidArgumentError(absl::StrCat(path, " is not a regular file"));
  }
  return std::shared_ptr<const InputFile>(
      new InputFile(path, descriptor, static_cast<uint64_t>(status.st_size), ""));
}

std::shared_ptr<const InputFile> InputFile::OfBytes(std::string name, std::string bytes) {
  const uint64_t size = bytes.size();
  return std::shared_ptr<const InputFile>(
      new InputFile(std::move(name), -1, size, std::move(bytes)));
}

InputFile::InputFile(std::string path, int descriptor, uint64_t size, std::string bytes)
    : path_(std::move(path)), descriptor_(descriptor), size_(size), bytes_(std::move(bytes)) {}

InputFile::~InputFile() {
  if (mapping_ != nullptr) munmap(mapping_, size_);
  if (descriptor_ >= 0) close(descriptor_);
}

absl::Status InputFile::Shorter() const {
  return absl::DataLossError(absl::StrCat(path_, " has become shorter while it was read"));
}

absl::Status InputFile::Read(uint64_t offset, uint64_t bytes, void* out) const {
  if (offset > size_ || bytes > size_ - offset) {
    return absl::DataLossError(absl::StrCat(path_, " ends before byte ", offset, " + ", bytes));
  }
  if (descriptor_ < 0) {
    std::memcpy(out, bytes_.data() + offset, bytes);
    return absl::OkStatus();
  }
  auto* to = static_cast<char*>(out);
  while (bytes > 0) {
    const ssize_t got = pread(descriptor_, to, bytes, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return absl::ErrnoToStatus(errno, absl::StrCat("reading ", path_));
    if (got == 0) return Shorter();
    to += got;
    offset += static_cast<uint64_t>(got);
    bytes -= static_cast<uint64_t>(got);
  }
  return absl::OkStatus();
}

absl::StatusOr<const std::byte*> InputFile::Map() const {
  if (descriptor_ < 0) return reinterpret_cast<const std::byte*>(bytes_.data());
  struct stat status {};
  if (fstat(descriptor_, &status) != 0 || static_cast<uint64_t>(status.st_size) < size_) {
    return Shorter();
  }
  const MutexLock lock(mutex_);
  if (mapping_ == nullptr) {
    void* mapping = mmap(nullptr, size_, PROT_READ, MAP_SHARED, descriptor_, 0);
    if (mapping == MAP_FAILED) return absl::ErrnoToStatus(errno, absl::StrCat("mapping ", path_));
    mapping_ = mapping;
  }
  return static_cast<const std::byte*>(mapping_);
}

}  // namespace ckpt::cli
