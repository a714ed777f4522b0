#include "tests/fakes/faulty_file_system.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

std::string FolderOf(const std::string& path) { return path.substr(0, path.rfind('/')); }

uint64_t InodeOf(const std::string& path) {
  struct stat status;
  return stat(path.c_str(), &status) == 0 ? status.st_ino : 0;
}

}  // namespace

class FaultyWritable : public WritableFile {
 public:
  FaultyWritable(FaultyFileSystem* system, std::string path, std::unique_ptr<WritableFile> real)
      : system_(system), path_(std::move(path)), inode_(InodeOf(path_)), real_(std::move(real)) {}
  absl::Status WriteAt(uint64_t offset, const void* data, size_t bytes) override {
    CKPT_RETURN_IF_ERROR(system_->Before(FaultyFileSystem::Call::kWrite, path_));
    return real_->WriteAt(offset, data, bytes);
  }
  absl::Status Truncate(uint64_t bytes) override {
    CKPT_RETURN_IF_ERROR(system_->Before(FaultyFileSystem::Call::kTruncate, path_));
    return real_->Truncate(bytes);
  }
  absl::Status Sync() override {
    CKPT_RETURN_IF_ERROR(system_->Before(FaultyFileSystem::Call::kSync, path_));
    CKPT_RETURN_IF_ERROR(real_->Sync());
    system_->WriteSynced(inode_);
    return absl::OkStatus();
  }
  absl::Status Close() override { return real_->Close(); }

 private:
  FaultyFileSystem* const system_;
  const std::string path_;
  const uint64_t inode_;
  const std::unique_ptr<WritableFile> real_;
};

class FaultyReadable : public ReadableFile {
 public:
  FaultyReadable(FaultyFileSystem* system, std::string path, std::unique_ptr<ReadableFile> real)
      : system_(system), path_(std::move(path)), real_(std::move(real)) {}
  absl::Status ReadAt(uint64_t offset, void* data, size_t bytes) const override {
    CKPT_RETURN_IF_ERROR(system_->Before(FaultyFileSystem::Call::kRead, path_));
    return real_->ReadAt(offset, data, bytes);
  }
  uint64_t size() const override { return real_->size(); }
  int descriptor() const override { return real_->descriptor(); }

 private:
  FaultyFileSystem* const system_;
  const std::string path_;
  const std::unique_ptr<ReadableFile> real_;
};

void FaultyFileSystem::FailOn(Call call, std::string path_part, int nth, absl::Status status,
                              int times) {
  MutexLock lock(mutex_);
  rules_.push_back({call, std::move(path_part), nth, times, std::move(status)});
}

void FaultyFileSystem::CrashAt(uint64_t number) {
  MutexLock lock(mutex_);
  crash_at_ = number;
}

uint64_t FaultyFileSystem::operations() {
  MutexLock lock(mutex_);
  return operations_;
}

int FaultyFileSystem::calls(Call call, const std::string& path_part) {
  MutexLock lock(mutex_);
  int count = 0;
  for (const CallMade& made : made_) {
    count += made.call == call && absl::StrContains(made.path, path_part) ? 1 : 0;
  }
  return count;
}

void FaultyFileSystem::SetFreeBytes(std::optional<uint64_t> bytes) {
  MutexLock lock(mutex_);
  free_bytes_ = bytes;
}

absl::Status FaultyFileSystem::Before(Call call, const std::string& path) {
  MutexLock lock(mutex_);
  made_.push_back({call, path});
  if (call != Call::kRead && ++operations_ == crash_at_) crashed_ = true;
  if (crashed_) return absl::InternalError("crashed");
  for (Rule& rule : rules_) {
    if (rule.call != call || !absl::StrContains(path, rule.path_part)) continue;
    ++rule.seen;
    if (rule.seen >= rule.nth && rule.seen < rule.nth + rule.times) return rule.status;
  }
  return absl::OkStatus();
}

void FaultyFileSystem::WriteSynced(uint64_t inode) {
  MutexLock lock(mutex_);
  unsynced_.erase(inode);
}

std::string FaultyFileSystem::Keep(const std::string& path) {
  const std::string kept = absl::StrCat(shadow_, "/", ++kept_);
  return link(path.c_str(), kept.c_str()) == 0 ? kept : std::string();
}

absl::StatusOr<std::unique_ptr<WritableFile>> FaultyFileSystem::Create(
    const std::string& path, const CreateFileOptions& options) {
  CKPT_RETURN_IF_ERROR(Before(Call::kCreate, path));
  CKPT_ASSIGN_OR_RETURN(auto real, PosixFileSystem()->Create(path, options));
  auto file = std::make_unique<FaultyWritable>(this, path, std::move(real));
  MutexLock lock(mutex_);
  unsynced_.insert(InodeOf(path));
  undo_.push_back({.folder = FolderOf(path), .remove = path, .restore = "", .to = ""});
  return file;
}

absl::StatusOr<std::unique_ptr<ReadableFile>> FaultyFileSystem::OpenRead(const std::string& path) {
  CKPT_RETURN_IF_ERROR(Before(Call::kRead, path));
  CKPT_ASSIGN_OR_RETURN(auto real, PosixFileSystem()->OpenRead(path));
  return std::make_unique<FaultyReadable>(this, path, std::move(real));
}

absl::Status FaultyFileSystem::Rename(const std::string& from, const std::string& to) {
  CKPT_RETURN_IF_ERROR(Before(Call::kRename, from));
  MutexLock lock(mutex_);
  const std::string moved = Keep(from);
  const std::string replaced = InodeOf(to) != 0 ? Keep(to) : std::string();
  CKPT_RETURN_IF_ERROR(PosixFileSystem()->Rename(from, to));
  undo_.push_back({.folder = FolderOf(to), .remove = to, .restore = moved, .to = from});
  if (!replaced.empty()) {
    undo_.push_back({.folder = FolderOf(to), .remove = to, .restore = replaced, .to = to});
    std::swap(undo_[undo_.size() - 1], undo_[undo_.size() - 2]);  // undone in reverse
  }
  return absl::OkStatus();
}

absl::Status FaultyFileSystem::Unlink(const std::string& path) {
  CKPT_RETURN_IF_ERROR(Before(Call::kUnlink, path));
  MutexLock lock(mutex_);
  const std::string kept = InodeOf(path) != 0 ? Keep(path) : std::string();
  CKPT_RETURN_IF_ERROR(PosixFileSystem()->Unlink(path));
  undo_.push_back({.folder = FolderOf(path), .remove = "", .restore = kept, .to = path});
  return absl::OkStatus();
}

absl::Status FaultyFileSystem::MakeFolder(const std::string& path) {
  return PosixFileSystem()->MakeFolder(path);
}

absl::Status FaultyFileSystem::RemoveFolder(const std::string& path) {
  return PosixFileSystem()->RemoveFolder(path);
}

absl::Status FaultyFileSystem::SyncFolder(const std::string& path) {
  CKPT_RETURN_IF_ERROR(Before(Call::kSyncFolder, path));
  CKPT_RETURN_IF_ERROR(PosixFileSystem()->SyncFolder(path));
  MutexLock lock(mutex_);
  std::erase_if(undo_, [&](const Undo& undo) { return undo.folder == path; });
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> FaultyFileSystem::List(const std::string& path) {
  return PosixFileSystem()->List(path);
}

absl::StatusOr<DiskSpace> FaultyFileSystem::Space(const std::string& path) {
  CKPT_ASSIGN_OR_RETURN(DiskSpace space, PosixFileSystem()->Space(path));
  MutexLock lock(mutex_);
  if (free_bytes_.has_value()) space.free_bytes = *free_bytes_;
  return space;
}

void FaultyFileSystem::PowerLoss() {
  MutexLock lock(mutex_);
  absl::flat_hash_set<std::string> folders;
  for (const CallMade& made : made_) folders.insert(FolderOf(made.path));
  for (auto undo = undo_.rbegin(); undo != undo_.rend(); ++undo) {
    if (!undo->remove.empty()) unlink(undo->remove.c_str());
    if (undo->restore.empty()) continue;
    unlink(undo->to.c_str());
    if (link(undo->restore.c_str(), undo->to.c_str()) != 0) continue;
  }
  undo_.clear();
  for (const std::string& folder : folders) {  // names that outlived their bytes
    auto names = PosixFileSystem()->List(folder);
    if (!names.ok()) continue;
    for (const std::string& name : *names) {
      const std::string path = absl::StrCat(folder, "/", name);
      if (!unsynced_.contains(InodeOf(path))) continue;
      [[maybe_unused]] const int cut = truncate(path.c_str(), 0);
    }
  }
}

}  // namespace ckpt
