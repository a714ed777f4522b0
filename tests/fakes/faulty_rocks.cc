#include "tests/fakes/faulty_rocks.h"

#include <unistd.h>

#include <string>
#include <utility>

#include "rocksdb/file_system.h"
#include "server/index/environment.h"

namespace ckpt {
namespace {

using rocksdb::FileOptions;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

// The disk tells of failures, the real file system has them in words of its own: those win.
IOStatus RocksStatus(const absl::Status& status, IOStatus real) {
  if (!real.ok() || status.ok()) return real;
  const std::string text(status.message());
  return absl::IsResourceExhausted(status) ? IOStatus::NoSpace(text) : IOStatus::IOError(text);
}

absl::Status Failed(const IOStatus& status) {
  return status.ok() ? absl::OkStatus() : absl::InternalError(status.ToString());
}

// An operation of the disk that does `real`.
template <typename Operation, typename Real>
IOStatus Run(Operation operation, Real real) {
  IOStatus done;
  const absl::Status status = operation([&] {
    done = real();
    return Failed(done);
  });
  return RocksStatus(status, std::move(done));
}

class FaultyFile : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  FaultyFile(FaultyDisk* disk, std::string path, std::unique_ptr<rocksdb::FSWritableFile> real)
      : FSWritableFileOwnerWrapper(std::move(real)),
        disk_(disk),
        path_(std::move(path)),
        inode_(FaultyDisk::InodeOf(path_)) {}
  IOStatus Append(const Slice& data, const IOOptions& options, IODebugContext* dbg) override {
    return Write([&] { return target()->Append(data, options, dbg); });
  }
  IOStatus Append(const Slice& data, const IOOptions& options,
                  const rocksdb::DataVerificationInfo& verification, IODebugContext* dbg) override {
    return Write([&] { return target()->Append(data, options, verification, dbg); });
  }
  // No room is taken ahead: on tmpfs that costs more than all the rest.
  void PrepareWrite(size_t, size_t, const IOOptions&, IODebugContext*) override {}
  IOStatus Truncate(uint64_t size, const IOOptions& options, IODebugContext* dbg) override {
    return Run([&](FaultyDisk::Real real) { return disk_->Truncate(path_, real); },
               [&] { return target()->Truncate(size, options, dbg); });
  }
  IOStatus Sync(const IOOptions& options, IODebugContext* dbg) override {
    return Run([&](FaultyDisk::Real real) { return disk_->Sync(path_, inode_, real); },
               [&] { return target()->Sync(options, dbg); });
  }
  IOStatus Fsync(const IOOptions& options, IODebugContext* dbg) override {
    return Run([&](FaultyDisk::Real real) { return disk_->Sync(path_, inode_, real); },
               [&] { return target()->Fsync(options, dbg); });
  }

 private:
  template <typename Real>
  IOStatus Write(Real real) {
    return Run([&](FaultyDisk::Real write) { return disk_->Write(path_, write); }, real);
  }
  FaultyDisk* const disk_;
  const std::string path_;
  const uint64_t inode_;
};

class FaultyFolder : public rocksdb::FSDirectoryWrapper {
 public:
  FaultyFolder(FaultyDisk* disk, std::string path, std::unique_ptr<rocksdb::FSDirectory> real)
      : FSDirectoryWrapper(std::move(real)), disk_(disk), path_(std::move(path)) {}
  IOStatus Fsync(const IOOptions& options, IODebugContext* dbg) override {
    return Sync([&] { return FSDirectoryWrapper::Fsync(options, dbg); });
  }
  IOStatus FsyncWithDirOptions(const IOOptions& options, IODebugContext* dbg,
                               const rocksdb::DirFsyncOptions& why) override {
    return Sync([&] { return FSDirectoryWrapper::FsyncWithDirOptions(options, dbg, why); });
  }

 private:
  template <typename Real>
  IOStatus Sync(Real real) {
    return Run([&](FaultyDisk::Real sync) { return disk_->SyncFolder(path_, sync); }, real);
  }
  FaultyDisk* const disk_;
  const std::string path_;
};

class FaultyRocksFiles : public rocksdb::FileSystemWrapper {
 public:
  explicit FaultyRocksFiles(FaultyDisk* disk)
      : FileSystemWrapper(rocksdb::FileSystem::Default()), disk_(disk) {}
  const char* Name() const override { return "FaultyRocksFiles"; }

  IOStatus NewWritableFile(const std::string& path, const FileOptions& options,
                           std::unique_ptr<rocksdb::FSWritableFile>* file,
                           IODebugContext* dbg) override {
    const IOStatus made = Run(
        [&](FaultyDisk::Real real) { return disk_->Create(path, real); },
        [&] {
          unlink(path.c_str());  // in place of truncating it, which could not be undone
          return target()->NewWritableFile(path, options, file, dbg);
        });
    if (made.ok()) *file = std::make_unique<FaultyFile>(disk_, path, std::move(*file));
    return made;
  }
  IOStatus ReopenWritableFile(const std::string& path, const FileOptions& options,
                              std::unique_ptr<rocksdb::FSWritableFile>* file,
                              IODebugContext* dbg) override {
    const IOStatus opened = target()->ReopenWritableFile(path, options, file, dbg);
    if (opened.ok()) *file = std::make_unique<FaultyFile>(disk_, path, std::move(*file));
    return opened;
  }
  IOStatus NewSequentialFile(const std::string& path, const FileOptions& options,
                             std::unique_ptr<rocksdb::FSSequentialFile>* file,
                             IODebugContext* dbg) override {
    return Run([&](FaultyDisk::Real real) { return disk_->Read(path, real); },
               [&] { return target()->NewSequentialFile(path, options, file, dbg); });
  }
  IOStatus NewRandomAccessFile(const std::string& path, const FileOptions& options,
                               std::unique_ptr<rocksdb::FSRandomAccessFile>* file,
                               IODebugContext* dbg) override {
    return Run([&](FaultyDisk::Real real) { return disk_->Read(path, real); },
               [&] { return target()->NewRandomAccessFile(path, options, file, dbg); });
  }
  IOStatus NewDirectory(const std::string& path, const IOOptions& options,
                        std::unique_ptr<rocksdb::FSDirectory>* folder,
                        IODebugContext* dbg) override {
    const IOStatus opened = target()->NewDirectory(path, options, folder, dbg);
    if (opened.ok()) *folder = std::make_unique<FaultyFolder>(disk_, path, std::move(*folder));
    return opened;
  }
  IOStatus DeleteFile(const std::string& path, const IOOptions& options,
                      IODebugContext* dbg) override {
    return Run([&](FaultyDisk::Real real) { return disk_->Unlink(path, real); },
               [&] { return target()->DeleteFile(path, options, dbg); });
  }
  IOStatus Truncate(const std::string& path, size_t size, const IOOptions& options,
                    IODebugContext* dbg) override {
    return Run([&](FaultyDisk::Real real) { return disk_->Truncate(path, real); },
               [&] { return target()->Truncate(path, size, options, dbg); });
  }
  IOStatus CreateDir(const std::string& path, const IOOptions& options,
                     IODebugContext* dbg) override {
    return Run([&](FaultyDisk::Real real) { return disk_->MakeFolder(path, real); },
               [&] { return target()->CreateDir(path, options, dbg); });
  }
  IOStatus CreateDirIfMissing(const std::string& path, const IOOptions& options,
                              IODebugContext* dbg) override {
    return Run([&](FaultyDisk::Real real) { return disk_->MakeFolder(path, real); },
               [&] { return target()->CreateDirIfMissing(path, options, dbg); });
  }
  IOStatus RenameFile(const std::string& from, const std::string& to, const IOOptions& options,
                      IODebugContext* dbg) override {
    return Run([&](FaultyDisk::Real real) { return disk_->Rename(from, to, real); },
               [&] { return target()->RenameFile(from, to, options, dbg); });
  }
  // The disk knows no second names of a file: whoever would make one copies the file instead.
  IOStatus LinkFile(const std::string&, const std::string&, const IOOptions&,
                    IODebugContext*) override {
    return IOStatus::NotSupported("links");
  }

 private:
  FaultyDisk* const disk_;
};

struct FaultyEnvironment : IndexEnvironment {
  explicit FaultyEnvironment(FaultyDisk* disk)
      : faulty(rocksdb::NewCompositeEnv(std::make_shared<FaultyRocksFiles>(disk))) {
    env = faulty.get();
  }
  const std::unique_ptr<rocksdb::Env> faulty;
};

}  // namespace

std::shared_ptr<IndexEnvironment> MakeFaultyRocks(FaultyDisk* disk, size_t memtables_bytes_max) {
  auto environment = std::make_shared<FaultyEnvironment>(disk);
  environment->memtables_bytes_max = memtables_bytes_max;
  return environment;
}

}  // namespace ckpt
