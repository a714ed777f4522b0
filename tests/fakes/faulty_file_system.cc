#include "tests/fakes/faulty_file_system.h"

#include <utility>

#include "common/status_macros.h"

namespace ckpt {
namespace {

class FaultyWritable : public WritableFile {
 public:
  FaultyWritable(FaultyDisk* disk, std::string path, std::unique_ptr<WritableFile> real)
      : disk_(disk),
        path_(std::move(path)),
        inode_(FaultyDisk::InodeOf(path_)),
        real_(std::move(real)) {}
  absl::Status WriteAt(uint64_t offset, const void* data, size_t bytes) override {
    return disk_->Write(path_, [&] { return real_->WriteAt(offset, data, bytes); });
  }
  absl::Status Truncate(uint64_t bytes) override {
    return disk_->Truncate(path_, [&] { return real_->Truncate(bytes); });
  }
  absl::Status Sync() override {
    return disk_->Sync(path_, inode_, [&] { return real_->Sync(); });
  }
  absl::Status Close() override { return real_->Close(); }

 private:
  FaultyDisk* const disk_;
  const std::string path_;
  const uint64_t inode_;
  const std::unique_ptr<WritableFile> real_;
};

class FaultyReadable : public ReadableFile {
 public:
  FaultyReadable(FaultyDisk* disk, std::string path, std::unique_ptr<ReadableFile> real)
      : disk_(disk), path_(std::move(path)), real_(std::move(real)) {}
  absl::Status ReadAt(uint64_t offset, void* data, size_t bytes) const override {
    return disk_->Read(path_, [&] { return real_->ReadAt(offset, data, bytes); });
  }
  uint64_t size() const override { return real_->size(); }
  int descriptor() const override { return real_->descriptor(); }

 private:
  FaultyDisk* const disk_;
  const std::string path_;
  const std::unique_ptr<ReadableFile> real_;
};

}  // namespace

void FaultyFileSystem::SetFreeBytes(std::optional<uint64_t> bytes) {
  MutexLock lock(space_mutex_);
  free_bytes_ = bytes;
}

absl::StatusOr<std::unique_ptr<WritableFile>> FaultyFileSystem::Create(
    const std::string& path, const CreateFileOptions& options) {
  std::unique_ptr<WritableFile> file;
  CKPT_RETURN_IF_ERROR(FaultyDisk::Create(path, [&]() -> absl::Status {
    CKPT_ASSIGN_OR_RETURN(auto real, PosixFileSystem()->Create(path, options));
    file = std::make_unique<FaultyWritable>(this, path, std::move(real));
    return absl::OkStatus();
  }));
  return file;
}

absl::StatusOr<std::unique_ptr<ReadableFile>> FaultyFileSystem::OpenRead(const std::string& path) {
  std::unique_ptr<ReadableFile> file;
  CKPT_RETURN_IF_ERROR(FaultyDisk::Read(path, [&]() -> absl::Status {
    CKPT_ASSIGN_OR_RETURN(auto real, PosixFileSystem()->OpenRead(path));
    file = std::make_unique<FaultyReadable>(this, path, std::move(real));
    return absl::OkStatus();
  }));
  return file;
}

absl::Status FaultyFileSystem::Rename(const std::string& from, const std::string& to) {
  return FaultyDisk::Rename(from, to, [&] { return PosixFileSystem()->Rename(from, to); });
}

absl::Status FaultyFileSystem::Unlink(const std::string& path) {
  return FaultyDisk::Unlink(path, [&] { return PosixFileSystem()->Unlink(path); });
}

absl::Status FaultyFileSystem::MakeFolder(const std::string& path) {
  return FaultyDisk::MakeFolder(path, [&] { return PosixFileSystem()->MakeFolder(path); });
}

absl::Status FaultyFileSystem::RemoveFolder(const std::string& path) {
  return FaultyDisk::RemoveFolder(path);
}

absl::Status FaultyFileSystem::SyncFolder(const std::string& path) {
  return FaultyDisk::SyncFolder(path, [&] { return PosixFileSystem()->SyncFolder(path); });
}

absl::StatusOr<std::vector<std::string>> FaultyFileSystem::List(const std::string& path) {
  return PosixFileSystem()->List(path);
}

absl::StatusOr<DiskSpace> FaultyFileSystem::Space(const std::string& path) {
  CKPT_ASSIGN_OR_RETURN(DiskSpace space, PosixFileSystem()->Space(path));
  MutexLock lock(space_mutex_);
  if (free_bytes_.has_value()) space.free_bytes = *free_bytes_;
  return space;
}

}  // namespace ckpt
