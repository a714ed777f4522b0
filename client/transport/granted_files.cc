#include "client/transport/granted_files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

// How long a populated read-only mapping outlives its last plan.
constexpr absl::Duration kIdleMax = absl::Seconds(30);
constexpr uint64_t kPageBytes = 4096;
// How often somebody who waits for a grant looks at whether it is still wanted.
constexpr absl::Duration kGivenUpPoll = absl::Milliseconds(20);

// False once the daemon has given the file up: its pages count against the memory budget until the
// last mapping goes.
bool HasName(const ReadFile& file) {
  struct stat info;
  return fstat(file.descriptor(), &info) == 0 && info.st_nlink > 0;
}

}  // namespace

StagingUse::~StagingUse() {
  mapping_.reset();
  files_->ReleaseStaging(id_);
}

absl::StatusOr<std::shared_ptr<Mapping>> ReadFile::Map() {
  MutexLock lock(mutex_);
  if (mapping_ == nullptr) {
    CKPT_ASSIGN_OR_RETURN(mapping_, Mapping::Map(descriptor_.number(), length_, false));
  }
  return mapping_;
}

bool ReadFile::mapped() const {
  MutexLock lock(mutex_);
  return mapping_ != nullptr;
}

int ReadFile::direct_descriptor() {
  MutexLock lock(mutex_);
  if (!std::exchange(direct_tried_, true)) {
    // An open of its own: the flag belongs to the open file, which others share.
    const std::string path = absl::StrCat("/proc/self/fd/", descriptor_.number());
    direct_ = Descriptor(open(path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
  }
  return direct_.number();
}

bool ReadFile::IsCached(uint64_t offset, uint64_t bytes) {
  const absl::StatusOr<std::shared_ptr<Mapping>> mapping = Map();
  if (!mapping.ok()) return true;
  const uint64_t begin = offset / kPageBytes * kPageBytes;
  const uint64_t end = std::min(offset + bytes, (*mapping)->length());
  if (begin >= end) return true;
  std::vector<unsigned char> pages((end - begin + kPageBytes - 1) / kPageBytes);
  if (mincore((*mapping)->data() + begin, end - begin, pages.data()) != 0) return true;
  const auto resident =
      std::count_if(pages.begin(), pages.end(), [](unsigned char page) { return (page & 1) != 0; });
  return static_cast<size_t>(resident) * 2 > pages.size();
}

GrantedFiles::GrantedFiles(std::function<void(FileId)> send_unmapped)
    : send_unmapped_(std::move(send_unmapped)) {}

absl::Status GrantedFiles::Grant(const v1::FileGrant& grant, Descriptor descriptor) {
  CKPT_ASSIGN_OR_RETURN(const FileId id, FileId::FromBytes(grant.file_id(), "a granted file's id"));
  std::shared_ptr<ReadFile> replaced;  // closed after the lock
  MutexLock lock(mutex_);
  if (grant.access() == v1::FILE_ACCESS_STAGING) {
    Staging& entry = staging_[id];
    if (entry.mapping == nullptr) {  // granted again while mapped: the same file
      entry.descriptor = std::move(descriptor);
      entry.length = grant.length();
    }
  } else {
    Read& entry = read_[id];
    const bool same =
        entry.file != nullptr && entry.file->length() == grant.length() && entry.file->mapped();
    if (!same) {
      auto file = std::make_shared<ReadFile>(id, std::move(descriptor), grant.length());
      replaced = std::exchange(entry.file, std::move(file));
    }
    entry.idle_since = absl::InfiniteFuture();
  }
  changed_.NotifyAll();
  return absl::OkStatus();
}

void GrantedFiles::Revoke(FileId id) {
  Staging dropped;
  std::shared_ptr<ReadFile> dropped_read;
  {
    MutexLock lock(mutex_);
    if (auto read = read_.find(id); read != read_.end()) {
      // A plan that still reads keeps its own reference.
      dropped_read = std::move(read->second.file);
      read_.erase(read);
    }
  }
  dropped_read.reset();
  {
    MutexLock lock(mutex_);
    if (auto found = staging_.find(id); found != staging_.end()) {
      if (found->second.uses > 0) {
        found->second.revoked = true;
        return;
      }
      dropped = std::move(found->second);
      staging_.erase(found);
    }
  }
  dropped = Staging();
  SendUnmapped(id);
}

void GrantedFiles::ReleaseStaging(FileId id) {
  Staging dropped;
  {
    MutexLock lock(mutex_);
    auto found = staging_.find(id);
    if (found == staging_.end()) return;
    if (--found->second.uses > 0) return;
    if (!found->second.revoked && closed_.ok()) return;
    dropped = std::move(found->second);
    staging_.erase(found);
  }
  dropped = Staging();
  SendUnmapped(id);
}

void GrantedFiles::SendUnmapped(FileId id) {
  MutexLock lock(send_mutex_);
  if (send_unmapped_) send_unmapped_(id);
}

void GrantedFiles::Close(absl::Status why) {
  {
    MutexLock lock(send_mutex_);
    send_unmapped_ = nullptr;
  }
  std::vector<Staging> dropped;
  std::map<FileId, Read> dropped_read;
  {
    MutexLock lock(mutex_);
    closed_ = std::move(why);
    dropped_read.swap(read_);
  }
  dropped_read.clear();
  MutexLock lock(mutex_);
  for (auto entry = staging_.begin(); entry != staging_.end();) {
    if (entry->second.uses > 0) {
      ++entry;
      continue;
    }
    dropped.push_back(std::move(entry->second));
    entry = staging_.erase(entry);
  }
  changed_.NotifyAll();
}

void GrantedFiles::DropIdle(absl::Time now) {
  std::vector<std::shared_ptr<ReadFile>> dropped;
  MutexLock lock(mutex_);
  dropped = TakeUnused(now);
}

absl::StatusOr<std::unique_ptr<StagingUse>> GrantedFiles::UseStaging(
    FileId id, uint64_t bytes_min, absl::Time deadline, absl::FunctionRef<bool()> given_up) {
  MutexLock lock(mutex_);
  for (;;) {
    if (!closed_.ok()) return closed_;
    auto found = staging_.find(id);
    if (found != staging_.end() && !found->second.revoked) {
      Staging& entry = found->second;
      if (entry.length < bytes_min) {
        return absl::InternalError(absl::StrCat("the daemon granted ", entry.length,
                                                " bytes of staging where it promised ", bytes_min));
      }
      if (entry.mapping == nullptr) {
        CKPT_ASSIGN_OR_RETURN(entry.mapping,
                              Mapping::Map(entry.descriptor.number(), entry.length, true));
        entry.descriptor.Reset();
      }
      ++entry.uses;
      return std::make_unique<StagingUse>(shared_from_this(), id, entry.mapping);
    }
    if (given_up()) return absl::CancelledError("the staging file is no longer wanted");
    if (absl::Now() >= deadline) {
      return absl::DeadlineExceededError("the daemon's grant of a staging file did not arrive");
    }
    changed_.WaitUntil(mutex_, std::min(deadline, absl::Now() + kGivenUpPoll));
  }
}

std::unique_ptr<StagingUse> GrantedFiles::StagingForReading(FileId id) {
  auto found = staging_.find(id);
  if (found == staging_.end() || found->second.revoked || found->second.mapping == nullptr) {
    return nullptr;
  }
  ++found->second.uses;
  return std::make_unique<StagingUse>(shared_from_this(), id, found->second.mapping);
}

absl::StatusOr<std::shared_ptr<ReadFile>> GrantedFiles::UseRead(FileId id, absl::Time deadline) {
  MutexLock lock(mutex_);
  for (;;) {
    if (!closed_.ok()) return closed_;
    auto found = read_.find(id);
    if (found != read_.end()) {
      found->second.idle_since = absl::InfiniteFuture();
      std::shared_ptr<ReadFile> file = found->second.file;
      MutexLock file_lock(file->mutex_);
      if (file->mapping_ == nullptr && file->staging_ == nullptr) {
        file->staging_ = StagingForReading(id);
        if (file->staging_ != nullptr && file->staging_->mapping().length() >= file->length_) {
          file->mapping_ = staging_.find(id)->second.mapping;
        }
      }
      return file;
    }
    if (!changed_.WaitUntil(mutex_, deadline)) {
      return absl::DeadlineExceededError("the daemon's grant of a data file did not arrive");
    }
  }
}

std::shared_ptr<ReadFile> GrantedFiles::FindRead(FileId id) {
  MutexLock lock(mutex_);
  auto found = read_.find(id);
  return found == read_.end() ? nullptr : found->second.file;
}

void GrantedFiles::BeginPlanning() {
  MutexLock lock(mutex_);
  ++planning_;
}

void GrantedFiles::EndPlanning() {
  std::vector<std::shared_ptr<ReadFile>> dropped;
  MutexLock lock(mutex_);
  --planning_;
  dropped = TakeUnused(absl::Now());
}

void GrantedFiles::Release(std::vector<std::shared_ptr<ReadFile>> files) {
  files.clear();
  DropIdle(absl::Now());
}

std::vector<std::shared_ptr<ReadFile>> GrantedFiles::TakeUnused(absl::Time now) {
  std::vector<std::shared_ptr<ReadFile>> unused;
  if (planning_ > 0) return unused;
  for (auto entry = read_.begin(); entry != read_.end();) {
    Read& read = entry->second;
    if (read.file.use_count() > 1) {
      ++entry;
      continue;
    }
    if (read.idle_since == absl::InfiniteFuture()) read.idle_since = now;
    if (read.file->mapped() && now - read.idle_since < kIdleMax && HasName(*read.file)) {
      ++entry;
      continue;
    }
    unused.push_back(std::move(read.file));
    entry = read_.erase(entry);
  }
  return unused;
}

size_t GrantedFiles::staging_count() const {
  MutexLock lock(mutex_);
  return staging_.size();
}

size_t GrantedFiles::read_count() const {
  MutexLock lock(mutex_);
  return read_.size();
}

}  // namespace ckpt
