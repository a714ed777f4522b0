#include "server/storage/direct_read.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace ckpt {
namespace {

constexpr uint64_t kAlignment = 4096;
constexpr uint64_t kReadBytes = 2 << 20;

struct Free {
  void operator()(char* buffer) const { std::free(buffer); }
};

class DirectFile : public ReadableFile {
 public:
  DirectFile(std::unique_ptr<ReadableFile> file, int descriptor)
      : file_(std::move(file)), direct_(descriptor) {}
  ~DirectFile() override { close(direct_); }

  absl::Status ReadAt(uint64_t offset, void* data, size_t bytes) const override {
    const std::unique_ptr<char, Free> buffer(
        static_cast<char*>(std::aligned_alloc(kAlignment, kReadBytes)));
    char* to = static_cast<char*>(data);
    while (bytes > 0 && buffer != nullptr) {
      const uint64_t skip = offset % kAlignment;
      const ssize_t got =
          pread(direct_, buffer.get(), kReadBytes, static_cast<off_t>(offset - skip));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0 || static_cast<uint64_t>(got) <= skip) break;
      const size_t part = std::min<size_t>(bytes, static_cast<uint64_t>(got) - skip);
      std::memcpy(to, buffer.get() + skip, part);
      to += part;
      offset += part;
      bytes -= part;
    }
    // What is left can be had otherwise, or that way says why not.
    return bytes == 0 ? absl::OkStatus() : file_->ReadAt(offset, to, bytes);
  }
  uint64_t size() const override { return file_->size(); }
  int descriptor() const override { return file_->descriptor(); }

 private:
  const std::unique_ptr<ReadableFile> file_;
  const int direct_;
};

}  // namespace

std::unique_ptr<ReadableFile> PastTheCache(std::unique_ptr<ReadableFile> file) {
  if (file->descriptor() < 0) return file;
  const std::string path = absl::StrCat("/proc/self/fd/", file->descriptor());
  const int direct = open(path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
  if (direct < 0) return file;
  return std::make_unique<DirectFile>(std::move(file), direct);
}

}  // namespace ckpt
