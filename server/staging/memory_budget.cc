// What the memory tier gives up when somebody needs pages, and when the pages are really gone.
#include <unistd.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/byte_size.h"
#include "server/staging/memory_tier_impl.h"

namespace ckpt {
namespace {

constexpr int kNoVictim = 100;
constexpr size_t kDebtorsNamedMax = 3;

}  // namespace

// In this order files are given up; see the top of memory_tier.h.
int MemoryTierImpl::VictimClass(const Slot& slot) const {
  if (slot.pins > 0 || slot.use == Use::kInUse || slot.use == Use::kRevoking) return kNoVictim;
  const bool owned = !slot.abandoned && !slot.owner.none();
  const bool kept = IsNewest(slot) || slot.use == Use::kDurable;
  if (!owned) return kept ? 1 : 0;
  if (slot.use == Use::kIdle) return 2;
  if (slot.use == Use::kDurable) return 4;
  return IsNewest(slot) ? 5 : 3;
}

// What is counted of it: a durable part keeps its records until it commits, uncounted.
uint64_t MemoryTierImpl::PagesOf(const Slot& slot) {
  return slot.file->bytes() + (slot.folder == nullptr ? 0 : slot.folder->record_bytes());
}

bool MemoryTierImpl::Reclaim(uint64_t bytes, int class_max, const Session* own,
                             std::vector<Revocation>& revocations) {
  CollectUnlinked();
  uint64_t coming = 0;
  for (const auto& file : unlinked_) coming += file->bytes();
  struct Victim {
    int rank_class;
    uint64_t sequence;
    Slot* slot;
  };
  std::vector<Victim> victims;
  uint64_t possible = 0;
  for (const auto& [id, slot] : slots_) {
    // What a client does not answer in time is no longer counted on.
    if (slot->use == Use::kRevoking && absl::Now() < slot->revoked_at + options_.revoke_timeout) {
      coming += slot->file->bytes();
    }
    const int rank_class = VictimClass(*slot);
    const bool ours = own != nullptr && slot->owner == own->token() && slot->use == Use::kIdle &&
                      slot->file->bytes() < bytes;
    if (rank_class == kNoVictim || (rank_class > class_max && !ours)) continue;
    victims.push_back({rank_class, slot->sequence, slot.get()});
    possible += PagesOf(*slot);
  }
  const uint64_t after = UsedBytes() + bytes;
  if (after <= budget_bytes_ + coming) return true;
  uint64_t missing = after - budget_bytes_ - coming;
  if (possible < missing) return false;
  std::sort(victims.begin(), victims.end(), [](const Victim& a, const Victim& b) {
    return std::tie(a.rank_class, a.sequence) < std::tie(b.rank_class, b.sequence);
  });
  for (const Victim& victim : victims) {
    if (missing == 0) break;
    Slot& slot = *victim.slot;
    missing -= std::min(missing, PagesOf(slot));
    GiveUp(slot, revocations);
  }
  return true;
}

void MemoryTierImpl::GiveUp(Slot& slot, std::vector<Revocation>& revocations) {
  const std::shared_ptr<Session> session = slot.session.lock();
  if (!slot.granted || slot.abandoned || session == nullptr) {
    Unlink(slot);
    return;
  }
  const bool was_copy = slot.use == Use::kCopy;
  const std::shared_ptr<PartFolder> folder = slot.folder;
  ForgetCopy(slot);
  slot.folder = nullptr;
  if (folder != nullptr) {  // a durable part's folder keeps its records
    rename(folder->data_path().c_str(), DataPath(slot).c_str());
    if (was_copy) folder->Remove();
  }
  slot.use = Use::kRevoking;
  slot.revoked_at = absl::Now();
  revocations.push_back({session, slot.file->id()});
}

void MemoryTierImpl::TakeBack(std::shared_ptr<StagingFile> file) {
  const FileId id = file->id();
  file = nullptr;  // first: whoever unlinks it looks at whether it is still held
  std::vector<Revocation> revocations;
  {
    MutexLock lock(mutex_);
    if (Slot* slot = Find(id)) GiveUp(*slot, revocations);
    changed_.NotifyAll();
  }
  AskBack(std::move(revocations));
}

void MemoryTierImpl::AskBack(std::vector<Revocation> revocations) {
  for (Revocation& revocation : revocations) {
    revocation.session->Revoke(revocation.file, [lifeline = lifeline_, id = revocation.file] {
      MutexLock alive(lifeline->mutex);
      if (lifeline->tier == nullptr) return;
      MemoryTierImpl& tier = *lifeline->tier;
      MutexLock lock(tier.mutex_);
      Slot* slot = tier.Find(id);
      if (slot != nullptr && slot->use == Use::kRevoking) tier.Unlink(*slot);
      tier.changed_.NotifyAll();
    });
  }
}

std::string MemoryTierImpl::NotGivenBack() const {
  std::map<pid_t, uint64_t> owed;
  {
    MutexLock lock(mutex_);
    for (const auto& [id, slot] : slots_) {
      if (slot->use != Use::kRevoking) continue;
      if (const auto session = slot->session.lock()) {
        owed[session->peer().pid] += slot->file->bytes();
      }
    }
  }
  std::string text;
  size_t named = 0;
  for (const auto& [process, bytes] : owed) {
    if (++named > kDebtorsNamedMax) {
      return absl::StrCat(text, " and ", owed.size() - kDebtorsNamedMax, " more processes");
    }
    absl::StrAppend(&text, "; process ", process, " was asked to give back ", PrintByteSize(bytes),
                    " and has not");
  }
  return text;
}

void MemoryTierImpl::Unlink(Slot& slot) {
  unlink(DataPath(slot).c_str());
  if (slot.use == Use::kCopy && slot.folder != nullptr) slot.folder->Remove();
  ForgetCopy(slot);
  slot.read_only = Descriptor();
  unlinked_.push_back(slot.file);
  const FileId id = slot.file->id();
  slots_.erase(id);
  CollectUnlinked();
}

bool MemoryTierImpl::Collect() {
  MutexLock lock(mutex_);
  const size_t before = unlinked_.size();
  CollectUnlinked();
  if (unlinked_.size() < before) changed_.NotifyAll();
  return unlinked_.empty();
}

void MemoryTierImpl::CollectUnlinked() {
  auto gone = std::partition(unlinked_.begin(), unlinked_.end(),
                             [](const std::shared_ptr<StagingFile>& file) {
                               return file.use_count() > 1 || !file->OnlyOurs();
                             });
  for (auto it = gone; it != unlinked_.end(); ++it) file_bytes_ -= (*it)->bytes();
  unlinked_.erase(gone, unlinked_.end());
}

}  // namespace ckpt
