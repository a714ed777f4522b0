// Checkpoint rows: put, hide, forget, and the seeks that find them.
#include <algorithm>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "common/limits.h"
#include "common/status_macros.h"
#include "server/index/rocks_index.h"
#include "server/observe/log.h"

namespace ckpt {
namespace {

using index_keys::IdOf;
using index_records::Encode;

absl::StatusOr<CheckpointId> IdOfManifest(const v1::CheckpointManifest& manifest) {
  return CheckpointId::FromProto(manifest.id());
}

// Every file that a checkpoint references, by its reference or its part manifest.
void ForEachFileOf(const v1::CheckpointManifest& manifest, absl::Span<const v1::PartManifest> parts,
                   absl::FunctionRef<void(FileId)> visit) {
  for (const v1::PartReference& reference : manifest.parts()) {
    visit(IdOf<FileId>(reference.manifest_id()));
  }
  for (const v1::PartManifest& part : parts) {
    for (const v1::DataFile& file : part.files()) visit(IdOf<FileId>(file.file_id()));
  }
}

}  // namespace

absl::StatusOr<index_records::RunRow> RocksIndex::RunRowOf(const std::string& run) {
  auto row = Get(kRuns, run);
  if (absl::IsNotFound(row.status())) return index_records::RunRow();
  if (!row.ok()) return row.status();
  return index_records::DecodeRun(*row);
}

absl::Status RocksIndex::PutCheckpoint(
    const v1::CheckpointManifest& manifest, const std::vector<v1::PartManifest>& parts,
    const v1::Labels& labels, absl::Span<const std::shared_ptr<const PartLayout>> layouts) {
  CKPT_ASSIGN_OR_RETURN(const CheckpointId id, IdOfManifest(manifest));
  CKPT_ASSIGN_OR_RETURN(const CheckpointUid uid,
                        CheckpointUid::FromBytes(manifest.checkpoint_uid(), "checkpoint_uid"));
  const std::string key = index_keys::Checkpoint(id, uid);
  MutexLock lock(write_mutex_);
  const auto tombstone = Get(kTasks, uid.bytes());
  if (tombstone.ok()) {
    return absl::FailedPreconditionError(absl::StrCat(id.ToString(), " is being deleted"));
  }
  if (!absl::IsNotFound(tombstone.status())) return tombstone.status();
  rocksdb::WriteBatch batch;
  auto row = Get(kCheckpoints, key);
  if (!row.ok() && !absl::IsNotFound(row.status())) return row.status();
  if (row.ok()) {
    CKPT_ASSIGN_OR_RETURN(CheckpointRecord known, index_records::DecodeCheckpoint(*row));
    CKPT_RETURN_IF_ERROR(ReplaceLabels(batch, key, std::move(known), labels));
    return Write(batch);
  }

  CheckpointRecord record{.manifest = manifest, .labels = labels};
  absl::flat_hash_map<std::string, uint64_t> references;
  for (size_t i = 0; i < parts.size(); ++i) {
    const v1::PartManifest& part = parts[i];
    CKPT_ASSIGN_OR_RETURN(const std::shared_ptr<const PartLayout> layout,
                          LayoutOf(part, i < layouts.size() ? layouts[i] : nullptr));
    if (!references.contains(part.layout_digest())) CKPT_RETURN_IF_ERROR(EnsureLayout(*layout));
    ++references[part.layout_digest()];
    record.shard_count += layout->shards().size();
    CKPT_RETURN_IF_ERROR(PutPart(batch, uid, part, *layout));
  }
  for (const v1::PartReference& reference : manifest.parts()) {
    record.data_bytes += reference.data_bytes();
  }
  for (const auto& [digest, count] : references) {
    CKPT_ASSIGN_OR_RETURN(const uint64_t before, LayoutCount(digest));
    batch.Put(families_[kLayouts], digest, index_records::EncodeCount(before + count));
  }
  ForEachFileOf(manifest, parts, [&](FileId file) {
    batch.Put(families_[kFiles], index_keys::File(file, uid), "");
  });
  CKPT_ASSIGN_OR_RETURN(index_records::RunRow run, RunRowOf(id.run));
  run.checkpoint_count += 1;
  run.data_bytes += record.data_bytes;
  run.newest_incarnation = std::max(run.newest_incarnation, id.incarnation);
  batch.Put(families_[kRuns], id.run, Encode(run));
  batch.Put(families_[kAttempts], uid.bytes(), key);
  CKPT_RETURN_IF_ERROR(ClaimTags(batch, id.run, uid, labels));
  batch.Put(families_[kCheckpoints], key, Encode(record));
  CKPT_RETURN_IF_ERROR(Written(db_->Write({}, &batch)));  // not synced: index.h says why
  for (const auto& [digest, count] : references) prepared_.erase(digest);
  return absl::OkStatus();
}

absl::Status RocksIndex::PutLabels(CheckpointUid uid, const v1::Labels& labels) {
  MutexLock lock(write_mutex_);
  CKPT_ASSIGN_OR_RETURN(const std::string key, Get(kAttempts, uid.bytes()));
  CKPT_ASSIGN_OR_RETURN(const std::string row, Get(kCheckpoints, key));
  CKPT_ASSIGN_OR_RETURN(CheckpointRecord record, index_records::DecodeCheckpoint(row));
  rocksdb::WriteBatch batch;
  CKPT_RETURN_IF_ERROR(ReplaceLabels(batch, key, std::move(record), labels));
  return Write(batch);
}

absl::Status RocksIndex::PutComparison(CheckpointUid uid, uint64_t compared_step,
                                       uint64_t identical_bytes) {
  MutexLock lock(write_mutex_);
  CKPT_ASSIGN_OR_RETURN(const std::string key, Get(kAttempts, uid.bytes()));
  CKPT_ASSIGN_OR_RETURN(const std::string row, Get(kCheckpoints, key));
  CKPT_ASSIGN_OR_RETURN(CheckpointRecord record, index_records::DecodeCheckpoint(row));
  record.compared_step = compared_step;
  record.identical_bytes = identical_bytes;
  return Fitted(db_->Put({}, families_[kCheckpoints], key, Encode(record)));
}

absl::Status RocksIndex::ReplaceLabels(rocksdb::WriteBatch& batch, const std::string& key,
                                       CheckpointRecord record, const v1::Labels& labels) {
  const std::string& run = record.manifest.id().run();
  const CheckpointUid uid = IdOf<CheckpointUid>(record.manifest.checkpoint_uid());
  for (const std::string& tag : record.labels.tags()) {
    const std::string tag_key = index_keys::Tag(run, tag);
    auto owner = Get(kTags, tag_key);
    if (owner.ok() && *owner == uid.bytes()) batch.Delete(families_[kTags], tag_key);
  }
  CKPT_RETURN_IF_ERROR(ClaimTags(batch, run, uid, labels));
  record.labels = labels;
  batch.Put(families_[kCheckpoints], key, Encode(record));
  return absl::OkStatus();
}

absl::Status RocksIndex::ClaimTags(rocksdb::WriteBatch& batch, const std::string& run,
                                   CheckpointUid uid, const v1::Labels& labels) {
  // Former owners, each rewritten once though several of its tags may move.
  absl::flat_hash_map<std::string, CheckpointRecord> losers;
  const absl::flat_hash_set<std::string> claimed(labels.tags().begin(), labels.tags().end());
  for (const std::string& tag : claimed) {
    const std::string tag_key = index_keys::Tag(run, tag);
    batch.Put(families_[kTags], tag_key, uid.bytes());
    auto owner = Get(kTags, tag_key);
    if (absl::IsNotFound(owner.status())) continue;
    CKPT_RETURN_IF_ERROR(owner.status());
    if (*owner == uid.bytes()) continue;
    CKPT_ASSIGN_OR_RETURN(const std::string key, Get(kAttempts, *owner));
    if (losers.contains(key)) continue;
    CKPT_ASSIGN_OR_RETURN(const std::string row, Get(kCheckpoints, key));
    CKPT_ASSIGN_OR_RETURN(losers[key], index_records::DecodeCheckpoint(row));
  }
  for (auto& [key, record] : losers) {
    auto* tags = record.labels.mutable_tags();
    tags->erase(std::remove_if(tags->begin(), tags->end(),
                               [&](const std::string& tag) { return claimed.contains(tag); }),
                tags->end());
    batch.Put(families_[kCheckpoints], key, Encode(record));
  }
  return absl::OkStatus();
}

absl::Status RocksIndex::Tombstone(CheckpointUid uid) {
  MutexLock lock(write_mutex_);
  CKPT_ASSIGN_OR_RETURN(const std::string key, Get(kAttempts, uid.bytes()));
  CKPT_ASSIGN_OR_RETURN(const std::string row, Get(kCheckpoints, key));
  CKPT_ASSIGN_OR_RETURN(const CheckpointRecord record, index_records::DecodeCheckpoint(row));
  const std::string& run_name = record.manifest.id().run();
  rocksdb::WriteBatch batch;
  batch.Put(families_[kTasks], uid.bytes(), row);
  batch.Delete(families_[kCheckpoints], key);
  batch.Delete(families_[kAttempts], uid.bytes());
  batch.Delete(families_[kDefault], index_keys::Damage(uid));
  for (const std::string& tag : record.labels.tags()) {
    const std::string tag_key = index_keys::Tag(run_name, tag);
    auto owner = Get(kTags, tag_key);
    if (owner.ok() && *owner == uid.bytes()) batch.Delete(families_[kTags], tag_key);
  }
  CKPT_ASSIGN_OR_RETURN(index_records::RunRow run, RunRowOf(run_name));
  run.checkpoint_count -= std::min<uint64_t>(run.checkpoint_count, 1);
  run.data_bytes -= std::min(run.data_bytes, record.data_bytes);
  batch.Put(families_[kRuns], run_name, Encode(run));
  return Write(batch);
}

absl::Status RocksIndex::FinishTombstone(CheckpointUid uid) {
  MutexLock lock(write_mutex_);
  auto record = GetTombstone(uid);
  if (absl::IsNotFound(record.status())) return absl::OkStatus();
  if (!record.ok()) return record.status();
  rocksdb::WriteBatch batch;
  absl::flat_hash_map<std::string, uint64_t> layouts;
  std::vector<v1::PartManifest> parts;
  CKPT_RETURN_IF_ERROR(
      ForEachRow(kParts, uid.bytes(), false,
                 [&](absl::string_view key, absl::string_view row) -> absl::StatusOr<bool> {
                   batch.Delete(families_[kParts], SliceOf(key));
                   if (!index_keys::IsPart(key)) return true;
                   v1::PartManifest part;
                   if (!part.ParseFromArray(row.data(), static_cast<int>(row.size()))) {
                     return index_records::Damaged("a part row");
                   }
                   ++layouts[part.layout_digest()];
                   parts.push_back(std::move(part));
                   return true;
                 }));
  ForEachFileOf(record->manifest, parts,
                [&](FileId file) { batch.Delete(families_[kFiles], index_keys::File(file, uid)); });
  for (const auto& [digest, count] : layouts) {
    CKPT_ASSIGN_OR_RETURN(const uint64_t before, LayoutCount(digest));
    if (before <= count) {
      CKPT_RETURN_IF_ERROR(RemoveLayout(batch, digest));
    } else {
      batch.Put(families_[kLayouts], digest, index_records::EncodeCount(before - count));
    }
  }
  batch.Delete(families_[kTasks], uid.bytes());
  return Write(batch);
}

absl::StatusOr<CheckpointRecord> RocksIndex::GetCheckpoint(CheckpointUid uid) {
  CKPT_ASSIGN_OR_RETURN(const std::string key, Get(kAttempts, uid.bytes()));
  CKPT_ASSIGN_OR_RETURN(const std::string row, Get(kCheckpoints, key));
  return index_records::DecodeCheckpoint(row);
}

absl::StatusOr<CheckpointRecord> RocksIndex::FindStep(const std::string& run, uint64_t step,
                                                      std::optional<Incarnation> incarnation) {
  const std::string prefix =
      incarnation.has_value()
          ? index_keys::IncarnationPrefix({.run = run, .step = step, .incarnation = *incarnation})
          : index_keys::StepPrefix(run, step);
  absl::StatusOr<CheckpointRecord> found =
      absl::NotFoundError(absl::StrCat("no committed checkpoint ", run, "@", step));
  CKPT_RETURN_IF_ERROR(
      ForEachRow(kCheckpoints, prefix, /*descending=*/true,
                 [&](absl::string_view, absl::string_view row) -> absl::StatusOr<bool> {
                   found = index_records::DecodeCheckpoint(row);
                   return false;
                 }));
  return found;
}

absl::StatusOr<CheckpointRecord> RocksIndex::FindLatest(const std::string& run, uint64_t step_max,
                                                        bool whole_only) {
  absl::StatusOr<CheckpointRecord> found =
      absl::NotFoundError(absl::StrCat("no committed checkpoint of run ", run));
  const std::optional<uint64_t> below =
      step_max >= kStepMax ? std::nullopt : std::optional<uint64_t>(step_max + 1);
  CKPT_RETURN_IF_ERROR(ForEachCheckpoint(run, below, [&](const CheckpointRecord& record) {
    if (whole_only &&
        static_cast<uint32_t>(record.manifest.share_size()) != record.manifest.world_size()) {
      return true;
    }
    found = record;
    return false;
  }));
  return found;
}

absl::StatusOr<CheckpointRecord> RocksIndex::FindTag(const std::string& run,
                                                     const std::string& tag) {
  CKPT_ASSIGN_OR_RETURN(const std::string uid, Get(kTags, index_keys::Tag(run, tag)));
  return GetCheckpoint(IdOf<CheckpointUid>(uid));
}

absl::Status RocksIndex::ForEachCheckpoint(const std::string& run,
                                           std::optional<uint64_t> below_step,
                                           absl::FunctionRef<bool(const CheckpointRecord&)> visit) {
  const std::string begin = index_keys::RunPrefix(run);
  const std::string end =
      below_step.has_value() ? index_keys::StepPrefix(run, *below_step) : index_keys::After(begin);
  const rocksdb::Slice lower = SliceOf(begin);
  const rocksdb::Slice upper = SliceOf(end);
  auto rows = Scan(kCheckpoints, &lower, &upper);
  std::optional<uint64_t> step_seen;
  for (rows->SeekToLast(); rows->Valid(); rows->Prev()) {
    auto key = index_keys::ParseCheckpoint(ViewOf(rows->key()));
    if (!key.has_value()) return index_records::Damaged("a checkpoint key");
    if (step_seen == key->step) continue;  // the winner of a step comes first
    step_seen = key->step;
    CKPT_ASSIGN_OR_RETURN(const CheckpointRecord record,
                          index_records::DecodeCheckpoint(ViewOf(rows->value())));
    if (!visit(record)) return absl::OkStatus();
  }
  return FromRocks(rows->status());
}

absl::StatusOr<std::vector<CheckpointUid>> RocksIndex::UidsOf(Family family) {
  std::vector<CheckpointUid> uids;
  CKPT_RETURN_IF_ERROR(ForEachRow(
      family, "", false, [&](absl::string_view key, absl::string_view) -> absl::StatusOr<bool> {
        if (key.size() != 16) return index_records::Damaged("a checkpoint's id");
        uids.push_back(IdOf<CheckpointUid>(key));
        return true;
      }));
  return uids;
}

absl::StatusOr<std::vector<CheckpointUid>> RocksIndex::AllCheckpoints() {
  return UidsOf(kAttempts);
}

absl::Status RocksIndex::VerifyFiles() {
  rocksdb::ReadOptions options;
  options.fill_cache = false;
  return FromRocks(db_->VerifyChecksum(options));
}

uint64_t RocksIndex::CheckpointCount() {
  uint64_t count = 0;
  const auto add = [&](absl::string_view, absl::string_view row) -> absl::StatusOr<bool> {
    CKPT_ASSIGN_OR_RETURN(const index_records::RunRow run, index_records::DecodeRun(row));
    count += run.checkpoint_count;
    return true;
  };
  const absl::Status status = ForEachRow(kRuns, "", false, add);
  if (!status.ok()) observe::Error("checkpoints cannot be counted", {{"error", status}});
  return count;
}

absl::StatusOr<std::vector<CheckpointUid>> RocksIndex::Tombstones() { return UidsOf(kTasks); }

absl::StatusOr<CheckpointRecord> RocksIndex::GetTombstone(CheckpointUid uid) {
  CKPT_ASSIGN_OR_RETURN(const std::string row, Get(kTasks, uid.bytes()));
  return index_records::DecodeCheckpoint(row);
}

}  // namespace ckpt
