// The file system as the daemon uses it: what it needs and nothing more, so that a test can own it
// (forget what was not synced, fail any call). Thread-safe. Paths are made by storage/names.h; a
// client's string never becomes one.
#ifndef CKPT_SERVER_STORAGE_FILE_SYSTEM_H_
#define CKPT_SERVER_STORAGE_FILE_SYSTEM_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace ckpt {

// A new file. Not durable before Sync; its name is not durable before FileSystem::SyncFolder. The
// destructor closes without syncing.
class WritableFile {
 public:
  virtual ~WritableFile() = default;
  // Thread-safe for disjoint ranges. A file opened `direct` takes offset, bytes and address in
  // multiples of 4096 only.
  virtual absl::Status WriteAt(uint64_t offset, const void* data, size_t bytes) = 0;
  virtual absl::Status Truncate(uint64_t bytes) = 0;
  // fdatasync. A failure is final: the caller gives the file up and never retries (the kernel may
  // have dropped the pages).
  [[nodiscard]] virtual absl::Status Sync() = 0;
  [[nodiscard]] virtual absl::Status Close() = 0;
};

class ReadableFile {
 public:
  virtual ~ReadableFile() = default;
  // Reads exactly `bytes`; DATA_LOSS where the file ends before or the device cannot read.
  // Thread-safe.
  virtual absl::Status ReadAt(uint64_t offset, void* data, size_t bytes) const = 0;
  virtual uint64_t size() const = 0;
  // For passing to another process; -1 where there is none. Owned by this object.
  virtual int descriptor() const = 0;
};

struct CreateFileOptions {
  bool direct = false;  // bypass the page cache where the file system can (falls back silently
                        // where it cannot)
  uint64_t preallocate_bytes =
      0;  // reserved before the first write: RESOURCE_EXHAUSTED when the disk is full
};

struct DiskSpace {
  uint64_t free_bytes = 0;
  uint64_t total_bytes = 0;
};

class FileSystem {
 public:
  virtual ~FileSystem() = default;
  // ALREADY_EXISTS, RESOURCE_EXHAUSTED (ENOSPC, EDQUOT), PERMISSION_DENIED (EACCES, EROFS), else
  // INTERNAL with the path and strerror. Mode 0600.
  virtual absl::StatusOr<std::unique_ptr<WritableFile>> Create(
      const std::string& path, const CreateFileOptions& options) = 0;
  // NOT_FOUND; DATA_LOSS where the device cannot read, or what has that name is no plain file.
  virtual absl::StatusOr<std::unique_ptr<ReadableFile>> OpenRead(const std::string& path) = 0;
  virtual absl::Status Rename(const std::string& from, const std::string& to) = 0;  // replaces
  virtual absl::Status Unlink(const std::string& path) = 0;                         // NOT_FOUND
  virtual absl::Status MakeFolder(const std::string& path) = 0;    // OK where it exists; mode 0700
  virtual absl::Status RemoveFolder(const std::string& path) = 0;  // must be empty
  [[nodiscard]] virtual absl::Status SyncFolder(const std::string& path) = 0;
  virtual absl::StatusOr<std::vector<std::string>> List(
      const std::string& path) = 0;  // names, not paths; unsorted
  virtual absl::StatusOr<DiskSpace> Space(const std::string& path) = 0;

  // Built on the above. Whole small files.
  absl::StatusOr<std::string> ReadWhole(const std::string& path);
  // Create at `temporary_name`, write, sync; one that was left there is replaced. The name is not
  // synced. On an error the file is removed. IsSyncFailed tells where a sync was what failed.
  absl::Status WriteTemporary(const std::string& folder, const std::string& temporary_name,
                              absl::string_view bytes);
  // Rename to `final_name`, sync the folder. On an error what stood there before stands there
  // again, as far as the disk still does what it is told; the temporary file is removed.
  absl::Status GiveFinalName(const std::string& folder, const std::string& temporary_name,
                             const std::string& final_name);
  // One after the other.
  absl::Status WriteDurably(const std::string& folder, const std::string& temporary_name,
                            const std::string& final_name, absl::string_view bytes);
  // A folder of files, without sub-folders; and itself. OK where there is none.
  absl::Status RemoveFlatFolder(const std::string& path);
};

// Whether the error of an open or a read says that the file is damaged: it is gone (NOT_FOUND), or
// DATA_LOSS. Any other (no descriptors, no memory, no permission) says nothing about what lies on
// disk: who would judge by it must ask again.
bool SaysDamaged(const absl::Status& error);

// A sync that failed is final: what it was to make durable may be lost even where a later sync
// succeeds. The mark is a payload of the status, so that who would try again can see it.
absl::Status SyncFailed(absl::Status status);
bool IsSyncFailed(const absl::Status& status);

// The real one. Never null, lives for ever.
FileSystem* PosixFileSystem();

}  // namespace ckpt

#endif  // CKPT_SERVER_STORAGE_FILE_SYSTEM_H_
