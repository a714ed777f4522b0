// A file that somebody else made, read where it lies. Nothing in it is trusted.
#ifndef CKPT_CLIENT_CLI_INPUT_FILE_H_
#define CKPT_CLIENT_CLI_INPUT_FILE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/mutex.h"

namespace ckpt::cli {

// Thread-safe.
class InputFile {
 public:
  // Regular files only, pipes and devices are refused: INVALID_ARGUMENT. NOT_FOUND,
  // PERMISSION_DENIED.
  static absl::StatusOr<std::shared_ptr<const InputFile>> Open(const std::string& path);
  // The same of bytes that are at hand.
  static std::shared_ptr<const InputFile> OfBytes(std::string name, std::string bytes);
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;
  ~InputFile();

  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }  // when it was opened
  // DATA_LOSS where the file ends before that: it may have become shorter since it was opened.
  absl::Status Read(uint64_t offset, uint64_t bytes, void* out) const;
  // All size() bytes in memory, mapped at the first call, for those who jump about in it. DATA_LOSS
  // where the file is shorter now; one that is cut while somebody reads there ends the process.
  absl::StatusOr<const std::byte*> Map() const;

 private:
  InputFile(std::string path, int descriptor, uint64_t size, std::string bytes);
  absl::Status Shorter() const;
  const std::string path_;
  const int descriptor_;  // -1: bytes_
  const uint64_t size_;
  const std::string bytes_;
  mutable Mutex mutex_;
  mutable void* mapping_ ABSL_GUARDED_BY(mutex_) = nullptr;
};

}  // namespace ckpt::cli

#endif  // CKPT_CLIENT_CLI_INPUT_FILE_H_
