// The daemon's file system over a FaultyDisk: real files until it is told to fail. Thread-safe.
#ifndef CKPT_TESTS_FAKES_FAULTY_FILE_SYSTEM_H_
#define CKPT_TESTS_FAKES_FAULTY_FILE_SYSTEM_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/mutex.h"
#include "server/storage/file_system.h"
#include "tests/fakes/faulty_disk.h"

namespace ckpt {

class FaultyFileSystem : public FaultyDisk, public FileSystem {
 public:
  using FaultyDisk::FaultyDisk;

  // What List, Space and so on say is not faked, but the free space can be.
  void SetFreeBytes(std::optional<uint64_t> bytes);

  absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path,
                                                       const CreateFileOptions& options) override;
  absl::StatusOr<std::unique_ptr<ReadableFile>> OpenRead(const std::string& path) override;
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status Unlink(const std::string& path) override;
  absl::Status MakeFolder(const std::string& path) override;
  absl::Status RemoveFolder(const std::string& path) override;
  absl::Status SyncFolder(const std::string& path) override;
  absl::StatusOr<std::vector<std::string>> List(const std::string& path) override;
  absl::StatusOr<DiskSpace> Space(const std::string& path) override;

 private:
  Mutex space_mutex_;
  std::optional<uint64_t> free_bytes_ ABSL_GUARDED_BY(space_mutex_);
};

}  // namespace ckpt

#endif  // CKPT_TESTS_FAKES_FAULTY_FILE_SYSTEM_H_
