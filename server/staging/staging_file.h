// One tmpfs file of the memory tier. The daemon reads and writes it by pread and pwrite and never
// maps it once a client may have it: a client can truncate it or write to it at any time.
#ifndef CKPT_SERVER_STAGING_STAGING_FILE_H_
#define CKPT_SERVER_STAGING_STAGING_FILE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/ids.h"

namespace ckpt {

inline constexpr uint64_t kPageBytes = 4096;  // what tmpfs allocates by

// What the tmpfs does about huge pages, found out once at start.
enum class HugePages {
  kNone,
  kAlways,  // the mount's huge= option or the host's shmem_enabled gives them to every file
  kAdvise,  // asked for with MADV_HUGEPAGE when the file is made
};
HugePages DetectHugePages(const std::string& folder);

// A descriptor that closes itself.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept;
  ~Descriptor();
  int get() const { return fd_; }
  int release() {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }

 private:
  int fd_ = -1;
};

// Immutable but for its bytes; thread-safe.
class StagingFile {
 public:
  // Creates `path` and allocates all of its pages. RESOURCE_EXHAUSTED when the tmpfs is full.
  static absl::StatusOr<std::shared_ptr<StagingFile>> Create(const std::string& path,
                                                             uint64_t bytes, HugePages huge_pages);
  // One that is there already. NOT_FOUND.
  static absl::StatusOr<std::shared_ptr<StagingFile>> OpenExisting(const std::string& path);

  FileId id() const { return id_; }
  uint64_t bytes() const { return bytes_; }
  // DATA_LOSS on a short read: somebody truncated the file.
  absl::Status Read(uint64_t offset, void* out, uint64_t bytes) const;
  absl::Status Write(uint64_t offset, absl::string_view bytes) const;
  // Its length and pages are as they were made: nobody truncated, punched or grew it.
  bool Intact() const;
  // No other open description and no mapping of it exists anywhere.
  bool OnlyOurs() const;
  // A description of its own for another process: OnlyOurs is false while that lives.
  absl::StatusOr<Descriptor> Reopen(bool read_only) const;

 private:
  StagingFile(FileId id, uint64_t bytes, Descriptor descriptor)
      : id_(id), bytes_(bytes), descriptor_(std::move(descriptor)) {}
  const FileId id_;
  const uint64_t bytes_;
  const Descriptor descriptor_;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_STAGING_STAGING_FILE_H_
