// Quotas: what the runs of a section have is counted when somebody asks, from the index and the
// live checkpoints. There are no counters, so none can be wrong after a crash, an abort or a
// deletion.
//
//   open-saves, checkpoints   at the Begin that would make a checkpoint: refused, nothing was begun
//   disk-bytes                there, where it is used up already, and for each part once its layout
//                             is known
//   memory-bytes              when a part gets its memory: waits, goes through a ring, or is
//                             refused, as its caller chose
//
// A part that is refused leaves its checkpoint as it is: its rank may begin again within the grace,
// otherwise that ends the checkpoint (table_timer.cc).
#include <algorithm>
#include <string>
#include <vector>

#include "common/status_macros.h"
#include "server/observe/log.h"
#include "server/staging/checkpoint_table_impl.h"

namespace ckpt {
namespace {

constexpr absl::Duration kQuotaPoll = absl::Milliseconds(200);

// A recycled file may be larger than what is in it; that is not its run's doing.
uint64_t MemoryHeld(const LivePart& part) {
  if (part.file == nullptr) return part.memory_promised;
  if (part.layout == nullptr) return part.file->bytes();
  return std::min(part.file->bytes(), part.layout->part_bytes());
}

}  // namespace

uint64_t CheckpointTableImpl::CountQuotaMemory(size_t section) const {
  uint64_t bytes = 0;
  for (const auto& [id, checkpoint] : checkpoints_) {
    if (checkpoint->quota_section != section) continue;
    for (const auto& [rank, part] : checkpoint->parts) bytes += MemoryHeld(*part);
  }
  return bytes;
}

bool CheckpointTableImpl::Replaces(const CheckpointId& id) {
  const absl::StatusOr<CheckpointRecord> winner = index_.FindStep(id.run, id.step, std::nullopt);
  return winner.ok() && !winner->labels.pinned() && winner->labels.tags_size() == 0;
}

QuotaAmounts CheckpointTableImpl::CountQuota(size_t section, const PartClaim* newcomer) {
  struct Alive {
    CheckpointId id;
    CheckpointUid uid;
    uint64_t data_bytes = 0;
    bool indexed = false;
  };
  const auto indexed = [this](CheckpointUid uid) { return index_.GetCheckpoint(uid).ok(); };
  while (true) {
    QuotaAmounts used;
    std::vector<Alive> alive;
    {
      MutexLock lock(mutex_);
      used.memory_bytes = CountQuotaMemory(section);
      for (const auto& [id, checkpoint] : checkpoints_) {
        if (checkpoint->quota_section != section || !checkpoint->live()) continue;
        if (newcomer != nullptr && id.run == newcomer->id.run &&
            id.incarnation < newcomer->id.incarnation &&
            checkpoint->state == v1::CHECKPOINT_STATE_WRITING) {
          continue;
        }
        alive.push_back({id, checkpoint->uid});
        for (const auto& [rank, part] : checkpoint->parts) {
          if (part->admitted && part->layout != nullptr) {
            alive.back().data_bytes += part->layout->data_bytes();
          }
        }
      }
    }
    // One that is being committed is in the index before the table says so. Those that were there
    // before the totals were read are in them.
    for (Alive& one : alive) one.indexed = indexed(one.uid);
    const absl::Status read = index_.ForEachRunTotals(
        std::string(options_.quotas.sections()[section].pattern.LiteralPrefix()),
        [&](absl::string_view run, uint64_t checkpoints, uint64_t data_bytes) {
          if (options_.quotas.SectionOf(run) != section) return;
          used.checkpoints += checkpoints;
          used.disk_bytes += data_bytes;
        });
    if (!read.ok()) {  // no reason to keep a job from saving
      observe::Warning("quota counted without what the index cannot read",
                       {{"section", options_.quotas.sections()[section].where}, {"error", read}});
    }
    bool came_meanwhile = false;
    for (const Alive& one : alive) {
      if (one.indexed) continue;
      came_meanwhile = came_meanwhile || indexed(one.uid);
      ++used.open_saves;
      used.disk_bytes += one.data_bytes;
      if (!Replaces(one.id)) ++used.checkpoints;
    }
    if (!came_meanwhile) return used;  // otherwise the totals have it, or not: again
  }
}

std::vector<CheckpointTable::QuotaUse> CheckpointTableImpl::QuotasInUse() {
  std::vector<QuotaUse> uses;
  for (size_t i = 0; i < options_.quotas.sections().size(); ++i) {
    uses.push_back({options_.quotas.sections()[i], CountQuota(i, nullptr)});
  }
  return uses;
}

absl::Status CheckpointTableImpl::AdmitByQuota(const PartClaim& claim) {
  const std::optional<size_t> section = options_.quotas.SectionOf(claim.id.run);
  if (!section.has_value()) return absl::OkStatus();
  {
    MutexLock lock(mutex_);
    const CheckpointPtr checkpoint = FindLive(claim.id);
    if (checkpoint != nullptr && checkpoint->live()) return absl::OkStatus();  // it joins that one
  }
  return AdmitCheckpoint(options_.quotas.sections()[*section], CountQuota(*section, &claim),
                         Replaces(claim.id) ? 0 : 1);
}

void CheckpointTableImpl::MakeRoomInQuota(const PartClaim& claim) {
  if (options_.make_room == nullptr) return;
  {
    MutexLock admission(admission_mutex_);
    if (!absl::IsResourceExhausted(AdmitByQuota(claim))) return;
  }
  (void)options_.make_room();
}

absl::Status CheckpointTableImpl::AdmitPartByQuota(const CheckpointPtr& checkpoint,
                                                   const PartPtr& part) {
  if (!checkpoint->quota_section.has_value()) return absl::OkStatus();
  const QuotaSection& section = options_.quotas.sections()[*checkpoint->quota_section];
  for (bool asked = options_.make_room == nullptr;; asked = true) {
    absl::Status admitted;
    {
      MutexLock admission(admission_mutex_);
      {
        MutexLock lock(mutex_);
        if (part->admitted) return absl::OkStatus();
      }
      admitted = AdmitPart(section, CountQuota(*checkpoint->quota_section, nullptr),
                           part->layout->data_bytes());
      MutexLock lock(mutex_);
      part->admitted = admitted.ok();
      part->refused = std::string(admitted.message());
    }
    if (admitted.ok() || asked) return admitted;
    (void)options_.make_room();
  }
}

absl::StatusOr<uint64_t> CheckpointTableImpl::PromiseMemory(const CheckpointPtr& checkpoint,
                                                            const PartPtr& part, uint64_t stream,
                                                            absl::FunctionRef<bool()> cancelled) {
  if (!checkpoint->quota_section.has_value()) return 0;
  const QuotaSection& section = options_.quotas.sections()[*checkpoint->quota_section];
  const PartClaim& claim = part->claim;
  const uint64_t part_bytes = part->layout->part_bytes();
  const absl::Time deadline = options_.clock->Now() + claim.memory_wait;
  MutexLock lock(mutex_);
  while (true) {
    CKPT_RETURN_IF_ERROR(CheckHeld(*checkpoint, *part, stream));
    const uint64_t used = CountQuotaMemory(*checkpoint->quota_section);
    const MemoryShare share =
        ShareMemory(section, used, part_bytes, claim.on_full == v1::ON_FULL_RING);
    if (share.bytes > 0 || part_bytes == 0) {
      part->memory_promised = share.bytes;
      part->refused.clear();
      return share.ring ? share.bytes : 0;
    }
    if (claim.on_full == v1::ON_FULL_REFUSE || options_.clock->Now() >= deadline) {
      const absl::Status refused = MemoryUsedUp(section, used, part_bytes);
      part->refused = std::string(refused.message());
      return refused;
    }
    if (cancelled()) return absl::CancelledError("the client has gone away");
    changed_.WaitUntil(mutex_, absl::Now() + kQuotaPoll);
  }
}

}  // namespace ckpt
