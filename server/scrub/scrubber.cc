#include "server/scrub/scrubber.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "google/protobuf/util/time_util.h"
#include "server/observe/log.h"
#include "server/persist/verify_on_disk.h"

namespace ckpt {
namespace {

constexpr absl::Duration kPauseMax = absl::Minutes(1);  // for what is more urgent, at each read
constexpr absl::Duration kBusyPoll = absl::Milliseconds(100);
constexpr absl::Duration kIdleMax = absl::Minutes(1);  // between two looks at what is due

absl::Time CommittedAt(const CheckpointRecord& record) {
  return absl::FromUnixNanos(
      google::protobuf::util::TimeUtil::TimestampToNanoseconds(record.manifest.committed_at()));
}

}  // namespace

Scrubber::Scrubber(DataFolder* folder, Index* index, KnownDamage* known, ScrubOptions options)
    : folder_(folder), index_(index), known_(known), options_(std::move(options)) {}

Scrubber::~Scrubber() {
  {
    MutexLock lock(mutex_);
    ending_ = true;
    ending_changed_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

void Scrubber::Start() {
  if (options_.bytes_per_second > 0) thread_ = std::thread([this] { Run(); });
}

ScrubStatus Scrubber::status() const {
  MutexLock lock(mutex_);
  return status_;
}

void Scrubber::Run() {
  while (true) {
    const absl::Status passed = Pass();
    if (absl::IsCancelled(passed)) return;
    if (!passed.ok()) observe::Error("scrub pass failed", {{"error", passed}});
    const absl::Time until = absl::Now() + std::min(options_.interval, kIdleMax);
    MutexLock lock(mutex_);
    while (!ending_ && absl::Now() < until) ending_changed_.WaitUntil(mutex_, until);
    if (ending_) return;
  }
}

absl::Status Scrubber::Pass() {
  MutexLock passing(passing_);
  CKPT_ASSIGN_OR_RETURN(const std::vector<CheckpointUid> due, Due());
  if (due.empty()) return absl::OkStatus();
  const ScrubStatus before = status();
  size_t unread = 0;
  absl::Status why_unread;
  for (size_t i = 0; i < due.size(); ++i) {
    {
      MutexLock lock(mutex_);
      status_.checkpoints_due = due.size() - i;
    }
    const absl::Status scrubbed = Scrub(due[i]);
    if (absl::IsCancelled(scrubbed)) return scrubbed;
    if (scrubbed.ok()) {
      checked_[due[i]] = {absl::Now(), known_->Find(due[i]).has_value()};
    } else {  // still due: one that cannot be read keeps nobody from the others
      ++unread;
      why_unread.Update(scrubbed);
    }
  }
  const absl::Status index = index_->VerifyFiles();
  ScrubStatus after;
  {
    MutexLock lock(mutex_);
    status_.checkpoints_due = 0;
    if (unread == 0) status_.pass_ended_at = absl::Now();
    if (absl::IsDataLoss(index)) ++status_.damaged_places;
    after = status_;
  }
  observe::Info("scrub pass ended",
                {{"checkpoints", due.size() - unread},
                 {"not_read", unread},
                 {"bytes", after.bytes - before.bytes},
                 {"damaged_places", after.damaged_places - before.damaged_places}});
  return index.ok() ? why_unread : index;
}

absl::StatusOr<std::vector<CheckpointUid>> Scrubber::Due() {
  CKPT_ASSIGN_OR_RETURN(const std::vector<CheckpointUid> all, index_->AllCheckpoints());
  known_->ForgetGone();
  const absl::Time now = absl::Now();
  absl::flat_hash_map<CheckpointUid, Checked> checked;
  std::vector<std::pair<absl::Time, CheckpointUid>> due;
  for (const CheckpointUid uid : all) {
    absl::Time last = absl::InfinitePast();
    const bool damaged = known_->Find(uid).has_value();
    if (const auto before = checked_.find(uid); before != checked_.end()) {
      checked[uid] = {before->second.at, before->second.damaged && damaged};
      // What somebody else has found since is read at once: memory may still have the bytes.
      if (!damaged || before->second.damaged) last = before->second.at;
    } else if (!damaged) {  // a mark of an earlier process: at once
      const absl::StatusOr<CheckpointRecord> record = index_->GetCheckpoint(uid);
      if (absl::IsNotFound(record.status())) continue;  // deleted meanwhile
      CKPT_RETURN_IF_ERROR(record.status());
      last = CommittedAt(*record);
    }
    if (last + options_.interval <= now) due.emplace_back(last, uid);
  }
  checked_ = std::move(checked);  // without those that are gone
  std::sort(due.begin(), due.end());
  std::vector<CheckpointUid> uids;
  for (const auto& [last, uid] : due) uids.push_back(uid);
  return uids;
}

absl::Status Scrubber::Scrub(CheckpointUid uid) {
  const absl::StatusOr<CheckpointRecord> record = index_->GetCheckpoint(uid);
  if (absl::IsNotFound(record.status())) return absl::OkStatus();
  CKPT_RETURN_IF_ERROR(record.status());
  absl::StatusOr<VerificationProgress> read = Read(uid, *record);
  if (read.ok() && !read->damage.empty()) {
    for (const std::string& damage : read->damage) {
      observe::Error("scrub: a committed checkpoint is damaged",
                     {{"run", record->manifest.id().run()},
                      {"step", record->manifest.id().step()},
                      {"damage", damage}});
    }
    const uint64_t repaired = Repair(uid, *record);
    {
      MutexLock lock(mutex_);
      status_.damaged_places += read->damage.size();
      status_.repaired_files += repaired;
    }
    if (repaired > 0) read = Read(uid, *record);
  }
  if (absl::IsNotFound(read.status())) {
    known_->Forget(uid);
    return absl::OkStatus();
  }
  CKPT_RETURN_IF_ERROR(read.status());
  known_->Found(uid, *read);
  return absl::OkStatus();
}

absl::StatusOr<VerificationProgress> Scrubber::Read(CheckpointUid uid,
                                                    const CheckpointRecord& record) {
  VerifyOptions options;
  options.known = &record.manifest;
  options.past_cache = true;
  options.report_every_bytes = 0;
  bool ending = false;
  uint64_t done = 0;
  const auto deleted = [&] { return absl::IsNotFound(index_->GetCheckpoint(uid).status()); };
  const auto progress = [&](const VerificationProgress& now) {
    ending = !Pace(now.bytes_done - std::exchange(done, now.bytes_done));
    return !ending && !deleted();
  };
  absl::StatusOr<VerificationProgress> read = VerifyOnDisk(folder_, uid, options, progress);
  if (ending) return absl::CancelledError("the scrubber ends");
  if (deleted()) return absl::NotFoundError("deleted meanwhile: what was missing was no damage");
  return read;
}

void Scrubber::RemoveFiles(const v1::PartManifest& part, CheckpointUid uid) {
  for (const v1::DataFile& file : part.files()) {
    const auto id = FileId::FromBytes(file.file_id(), "file id");
    if (id.ok() && !index_->IsShared(*id, uid).value_or(true)) {
      folder_->DeleteDataFile(*id).IgnoreError();  // an orphan, which recovery removes
    }
  }
}

uint64_t Scrubber::Repair(CheckpointUid uid, const CheckpointRecord& record) {
  uint64_t repaired = 0;
  for (const v1::PartReference& reference : record.manifest.parts()) {
    if (options_.source == nullptr) break;
    const std::unique_ptr<PartSource> source = options_.source->Open(uid, reference.rank());
    if (source == nullptr) continue;
    const absl::StatusOr<v1::PartManifest> part = folder_->ReadPartManifest(reference);
    if (!part.ok()) continue;
    const absl::StatusOr<uint32_t> replaced = RepairPart(folder_, *part, *source);
    if (absl::IsNotFound(index_->GetCheckpoint(uid).status())) {
      RemoveFiles(*part, uid);  // its deletion may have passed before the last rename
      break;
    }
    if (replaced.ok() && *replaced == 0) continue;
    repaired += replaced.value_or(0);
    observe::Warning("scrub: a damaged part is made anew from another tier",
                     {{"run", record.manifest.id().run()},
                      {"step", record.manifest.id().step()},
                      {"rank", reference.rank()},
                      {"files", replaced.value_or(0)},
                      {"result", replaced.status()}});
  }
  return repaired;
}

bool Scrubber::Pace(uint64_t bytes) {
  const absl::Time pause_until = absl::Now() + kPauseMax;
  MutexLock lock(mutex_);
  status_.bytes += bytes;
  if (options_.bytes_per_second > 0) {
    next_read_ = std::max(next_read_, absl::Now()) +
                 absl::Seconds(static_cast<double>(bytes) /
                               static_cast<double>(options_.bytes_per_second));
    while (!ending_ && absl::Now() < next_read_) ending_changed_.WaitUntil(mutex_, next_read_);
  }
  while (!ending_ && absl::Now() < pause_until && options_.busy()) {
    ending_changed_.WaitUntil(mutex_, absl::Now() + kBusyPoll);
  }
  return !ending_;
}

}  // namespace ckpt
