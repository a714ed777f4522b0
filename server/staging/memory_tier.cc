#include "server/staging/memory_tier.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "server/observe/log.h"
#include "server/staging/memory_tier_impl.h"

namespace ckpt {
namespace {

constexpr size_t kNewestKeptMin = 1000;  // without a look at whether they are still wanted

absl::Status MakeFolder(const std::string& path) {
  if (mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("cannot make the memory folder ", path, ": ", std::strerror(errno)));
}

std::vector<std::string> List(const std::string& path) {
  std::vector<std::string> names;
  DIR* folder = opendir(path.c_str());
  if (folder == nullptr) return names;
  while (const dirent* entry = readdir(folder)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  closedir(folder);
  return names;
}

class TierPin : public MemoryPin {
 public:
  TierPin(MemoryTierImpl* tier, std::shared_ptr<StagingFile> file, int descriptor)
      : tier_(tier), file_(std::move(file)), descriptor_(descriptor) {}
  ~TierPin() override {
    const FileId id = file_->id();
    file_ = nullptr;  // first: whoever unlinks it looks at whether it is still held
    tier_->Unpin(id);
  }
  FileId file_id() const override { return file_->id(); }
  uint64_t length() const override { return file_->bytes(); }
  int read_only_descriptor() const override { return descriptor_; }

 private:
  MemoryTierImpl* const tier_;
  std::shared_ptr<StagingFile> file_;
  const int descriptor_;  // the slot's: lives as long as a pin does
};

// Of the budget that records may have beside files that fill it.
constexpr uint64_t kRecordsShare = 16;

}  // namespace

absl::StatusOr<std::unique_ptr<MemoryTier>> MemoryTier::Open(MemoryTierOptions options) {
  if (options.budget_bytes < kPageBytes) {
    return absl::InvalidArgumentError("the memory budget must be at least one page");
  }
  CKPT_RETURN_IF_ERROR(MakeFolder(options.folder));
  CKPT_RETURN_IF_ERROR(MakeFolder(PoolFolder(options.folder)));
  CKPT_RETURN_IF_ERROR(MakeFolder(PartsFolder(options.folder)));
  const std::string lock_path = options.folder + "/LOCK";
  Descriptor lock(open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (lock.get() < 0) {
    return absl::InternalError(absl::StrCat("cannot open ", lock_path, ": ", std::strerror(errno)));
  }
  if (flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("another daemon uses the memory folder ", options.folder,
                     ": stop it, or give this one a folder of its own with --memory-dir"));
  }
  auto tier = std::make_unique<MemoryTierImpl>(std::move(options), std::move(lock));
  CKPT_RETURN_IF_ERROR(tier->Scan());
  return tier;
}

MemoryTierImpl::MemoryTierImpl(MemoryTierOptions options, Descriptor folder_lock)
    : options_(std::move(options)),
      budget_bytes_(options_.budget_bytes / kPageBytes * kPageBytes),
      huge_pages_(DetectHugePages(options_.folder)),
      folder_lock_(std::move(folder_lock)) {
  MutexLock lock(lifeline_->mutex);
  lifeline_->tier = this;
}

MemoryTierImpl::~MemoryTierImpl() {
  {
    MutexLock lock(lifeline_->mutex);
    lifeline_->tier = nullptr;
  }
  std::vector<std::pair<std::shared_ptr<Session>, uint64_t>> watched;
  {
    MutexLock lock(mutex_);
    for (const auto& [token, entry] : watched_) {
      if (auto session = entry.first.lock()) watched.emplace_back(session, entry.second);
    }
  }
  for (const auto& [session, number] : watched) session->ForgetOnClose(number);
}

absl::Status MemoryTierImpl::Scan() {
  for (const std::string& name : List(PoolFolder(options_.folder))) {
    unlink(absl::StrCat(PoolFolder(options_.folder), "/", name).c_str());
  }
  std::vector<FoundPart> found;
  uint64_t damaged_bytes = 0;
  for (const std::string& name : List(PartsFolder(options_.folder))) {
    const std::string path = absl::StrCat(PartsFolder(options_.folder), "/", name);
    std::optional<FoundPart> part = ReadPartFolder(path);
    if (!part.has_value()) continue;
    if (!part->damage.ok()) {
      observe::Error("staged part does not read; left where it is",
                     {{"folder", path}, {"reason", part->damage}});
      struct stat there {};
      if (stat(part->folder->data_path().c_str(), &there) == 0) {
        damaged_bytes += static_cast<uint64_t>(there.st_blocks) * 512;
      }
    }
    found.push_back(*std::move(part));
  }
  for (const FoundPart& part : found) part.folder->CountRecords();
  MutexLock lock(mutex_);
  found_ = std::move(found);
  damaged_bytes_ = damaged_bytes;
  file_bytes_ += damaged_bytes;
  return absl::OkStatus();
}

uint64_t MemoryTierImpl::RecordBytes() const {
  uint64_t bytes = 0;
  for (const auto& [id, slot] : slots_) {
    if (slot->folder != nullptr) bytes += slot->folder->record_bytes();
  }
  return bytes;
}

uint64_t MemoryTierImpl::UsedBytes() const {
  const uint64_t records = RecordBytes();
  return file_bytes_ + records - std::min(records, budget_bytes_ / kRecordsShare);
}

MemoryUsage MemoryTierImpl::usage() {
  MutexLock lock(mutex_);
  CollectUnlinked();
  MemoryUsage usage;
  usage.budget_bytes = budget_bytes_;
  usage.record_bytes = RecordBytes();
  usage.used_bytes = file_bytes_ + usage.record_bytes;
  usage.files = slots_.size() + unlinked_.size();
  usage.huge_pages = huge_pages_ != HugePages::kNone;
  for (const auto& [id, slot] : slots_) {
    if (slot->use == Use::kInUse) usage.not_durable_bytes += slot->file->bytes();
  }
  return usage;
}

absl::flat_hash_set<FileId> MemoryTierImpl::RecordedPartManifests() const {
  MutexLock lock(mutex_);
  absl::flat_hash_set<FileId> ids;
  for (const FoundPart& part : found_) {
    if (!part.durable.has_value()) continue;
    absl::StatusOr<FileId> id = FileId::FromBytes(part.durable->manifest_id(), "manifest_id");
    if (id.ok()) ids.insert(*id);
  }
  return ids;
}

std::vector<FoundPart> MemoryTierImpl::TakeFoundParts() {
  MutexLock lock(mutex_);
  return std::exchange(found_, {});
}

absl::StatusOr<std::shared_ptr<PartFolder>> MemoryTierImpl::NewFolder() {
  return PartFolder::Create(options_.folder);
}

absl::StatusOr<std::shared_ptr<StagingFile>> MemoryTierImpl::AdoptData(
    const std::shared_ptr<PartFolder>& folder) {
  CKPT_ASSIGN_OR_RETURN(std::shared_ptr<StagingFile> file,
                        StagingFile::OpenExisting(folder->data_path()));
  MutexLock lock(mutex_);
  file_bytes_ += file->bytes();
  AddSlot(file, nullptr, folder).abandoned = true;
  return file;
}

// --- slots

std::string MemoryTierImpl::DataPath(const Slot& slot) const {
  if (slot.folder != nullptr) return slot.folder->data_path();
  return absl::StrCat(PoolFolder(options_.folder), "/", slot.file->id().hex());
}

MemoryTierImpl::Slot* MemoryTierImpl::Find(FileId id) {
  auto found = slots_.find(id);
  return found == slots_.end() ? nullptr : found->second.get();
}

MemoryTierImpl::Slot& MemoryTierImpl::AddSlot(std::shared_ptr<StagingFile> file,
                                              const std::shared_ptr<Session>& session,
                                              std::shared_ptr<PartFolder> folder) {
  auto slot = std::make_unique<Slot>();
  slot->file = std::move(file);
  slot->folder = std::move(folder);
  slot->sequence = ++sequence_;
  if (session != nullptr) {
    slot->owner = session->token();
    slot->session = session;
  }
  Slot& added = *slot;
  slots_.emplace(added.file->id(), std::move(slot));
  return added;
}

bool MemoryTierImpl::IsNewest(const Slot& slot) const {
  auto found = newest_.find(slot.run);
  return slot.use == Use::kCopy && found != newest_.end() && found->second == slot.uid;
}

void MemoryTierImpl::ForgetCopy(Slot& slot) {
  if (slot.use != Use::kCopy) return;
  auto found = copies_.find({slot.uid, slot.rank});
  if (found != copies_.end() && found->second == slot.file->id()) copies_.erase(found);
  slot.read_only = Descriptor();
}

void MemoryTierImpl::ToPool(Slot& slot) {
  if (slot.abandoned || !slot.file->Intact()) {
    Unlink(slot);
    return;
  }
  const std::shared_ptr<PartFolder> folder = slot.folder;
  const bool was_copy = slot.use == Use::kCopy;
  ForgetCopy(slot);
  slot.folder = nullptr;
  if (folder != nullptr && rename(folder->data_path().c_str(), DataPath(slot).c_str()) != 0) {
    slot.folder = folder;
    Unlink(slot);
    return;
  }
  if (was_copy && folder != nullptr) folder->Remove();
  slot.use = Use::kIdle;
  slot.drop_at_unpin = false;
  slot.sequence = ++sequence_;
}

void MemoryTierImpl::Release(std::shared_ptr<StagingFile> file) {
  const FileId id = file->id();
  file = nullptr;  // first: whoever unlinks it looks at whether it is still held
  ReleaseId(id);
}

void MemoryTierImpl::ReleaseId(FileId file) {
  MutexLock lock(mutex_);
  Slot* slot = Find(file);
  if (slot != nullptr && (slot->use == Use::kInUse || slot->use == Use::kDurable)) ToPool(*slot);
  changed_.NotifyAll();
}

void MemoryTierImpl::SetDurable(std::shared_ptr<StagingFile> file) {
  const FileId id = file->id();
  file = nullptr;  // first: from here on the slot alone holds it
  MutexLock lock(mutex_);
  if (Slot* slot = Find(id)) slot->use = Use::kDurable;
  changed_.NotifyAll();
}

bool MemoryTierImpl::SetCopy(FileId file, const std::string& run, CheckpointUid uid,
                             uint32_t rank) {
  MutexLock lock(mutex_);
  Slot* slot = Find(file);
  if (slot == nullptr || slot->folder == nullptr) return false;
  slot->use = Use::kCopy;
  slot->run = run;
  slot->uid = uid;
  slot->rank = rank;
  slot->sequence = ++sequence_;
  copies_[{uid, rank}] = file;
  changed_.NotifyAll();
  return true;
}

void MemoryTierImpl::SetNewest(const std::string& run, CheckpointUid uid) {
  MutexLock lock(mutex_);
  newest_[run] = uid;
  if (newest_.size() > kNewestKeptMin + 2 * slots_.size()) {  // nobody asks of runs without a file
    absl::flat_hash_set<std::string> here;
    for (const auto& [id, slot] : slots_) here.insert(slot->run);
    absl::erase_if(newest_, [&](const auto& entry) { return !here.contains(entry.first); });
  }
  std::vector<Slot*> old;
  for (const auto& [id, slot] : slots_) {
    if (slot->use == Use::kCopy && slot->run == run && slot->uid != uid && slot->abandoned) {
      old.push_back(slot.get());
    }
  }
  for (Slot* slot : old) {
    if (slot->pins > 0) {
      slot->drop_at_unpin = true;
    } else {
      Unlink(*slot);
    }
  }
  changed_.NotifyAll();
}

// --- memory copies

std::unique_ptr<MemoryPin> MemoryTierImpl::Pin(CheckpointUid uid, uint32_t rank) {
  MutexLock lock(mutex_);
  auto found = copies_.find({uid, rank});
  if (found == copies_.end()) return nullptr;
  Slot* slot = Find(found->second);
  if (slot == nullptr || slot->use != Use::kCopy || slot->drop_at_unpin) return nullptr;
  if (slot->read_only.get() < 0) {
    absl::StatusOr<Descriptor> read_only = slot->file->Reopen(/*read_only=*/true);
    if (!read_only.ok()) return nullptr;
    slot->read_only = *std::move(read_only);
  }
  ++slot->pins;
  slot->sequence = ++sequence_;
  return std::make_unique<TierPin>(this, slot->file, slot->read_only.get());
}

void MemoryTierImpl::Unpin(FileId file) {
  MutexLock lock(mutex_);
  Slot* slot = Find(file);
  if (slot == nullptr || --slot->pins > 0) return;
  if (slot->drop_at_unpin) ToPool(*slot);
  changed_.NotifyAll();
}

bool MemoryTierImpl::Has(CheckpointUid uid, uint32_t rank) const {
  MutexLock lock(mutex_);
  return copies_.contains({uid, rank});
}

void MemoryTierImpl::Drop(CheckpointUid uid) {
  MutexLock lock(mutex_);
  std::vector<Slot*> dropped;
  for (const auto& [id, slot] : slots_) {
    if (slot->use == Use::kCopy && slot->uid == uid) dropped.push_back(slot.get());
  }
  for (Slot* slot : dropped) {
    if (slot->pins > 0) {
      slot->drop_at_unpin = true;
    } else {
      ToPool(*slot);
    }
  }
  changed_.NotifyAll();
}

// --- sessions

void MemoryTierImpl::WatchSession(const std::shared_ptr<Session>& session) {
  const SessionToken token = session->token();
  {
    MutexLock lock(mutex_);
    if (!watched_.try_emplace(token, session, 0).second) return;
  }
  const uint64_t number = session->OnClose([lifeline = lifeline_, token] {
    MutexLock alive(lifeline->mutex);
    if (lifeline->tier != nullptr) lifeline->tier->SessionEnded(token);
  });
  MutexLock lock(mutex_);
  auto found = watched_.find(token);
  if (found != watched_.end()) found->second.second = number;
}

void MemoryTierImpl::SessionEnded(SessionToken token) {
  MutexLock lock(mutex_);
  watched_.erase(token);
  std::vector<Slot*> given_up;
  for (const auto& [id, slot] : slots_) {
    if (slot->owner != token) continue;
    slot->abandoned = true;
    const bool unused = slot->use == Use::kIdle || slot->use == Use::kRevoking ||
                        (slot->use == Use::kCopy && !IsNewest(*slot));
    if (!unused) continue;
    if (slot->pins > 0) {
      slot->drop_at_unpin = true;
    } else {
      given_up.push_back(slot.get());
    }
  }
  for (Slot* slot : given_up) Unlink(*slot);
  changed_.NotifyAll();
}

void MemoryTierImpl::WakeWaiters() { changed_.NotifyAll(); }

}  // namespace ckpt
