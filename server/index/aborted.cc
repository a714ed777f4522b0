// Aborted checkpoints, kept for a while so that whoever waits learns why.
#include <algorithm>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "server/index/rocks_index.h"

namespace ckpt {

namespace {

constexpr size_t kAbortedRunsKnown = 64;  // in memory: 256 keys each

// Compact: a client that names a large world and goes away costs no more than one that names a
// small one.
v1::CheckpointInfo WithoutFullShare(v1::CheckpointInfo info) {
  if (static_cast<uint32_t>(info.share_size()) == info.world_size()) info.clear_share();
  return info;
}

void FillShare(v1::CheckpointInfo& info) {
  if (info.share_size() > 0) return;
  info.mutable_share()->Reserve(static_cast<int>(info.world_size()));
  for (uint32_t rank = 0; rank < info.world_size(); ++rank) info.add_share(rank);
}

}  // namespace

absl::Status RocksIndex::PutAborted(const v1::CheckpointInfo& info) {
  CKPT_ASSIGN_OR_RETURN(const CheckpointId id, CheckpointId::FromProto(info.id()));
  CKPT_ASSIGN_OR_RETURN(const CheckpointUid uid,
                        CheckpointUid::FromBytes(info.checkpoint_uid(), "checkpoint_uid"));
  MutexLock lock(write_mutex_);
  rocksdb::WriteBatch batch;
  CKPT_ASSIGN_OR_RETURN(index_records::RunRow run, RunRowOf(id.run));
  run.newest_incarnation = std::max(run.newest_incarnation, id.incarnation);
  batch.Put(families_[kRuns], id.run, index_records::Encode(run));
  CKPT_RETURN_IF_ERROR(MakeRoomForAborted());
  // Taken out, and put back when it is known to be so.
  auto known = aborted_keys_.extract(id.run);
  if (!known) {
    CKPT_ASSIGN_OR_RETURN(AbortedKeys keys, AbortedKeysOf(id.run));
    if (aborted_keys_.size() >= kAbortedRunsKnown) aborted_keys_.clear();
    aborted_keys_.emplace(id.run, std::move(keys));
    known = aborted_keys_.extract(id.run);
  }
  AbortedKeys& keys = known.mapped();
  const std::string key = index_keys::Checkpoint(id, uid);
  const absl::Time now = absl::FromUnixMicros(absl::ToUnixMicros(absl::Now()));  // as rows say
  size_t gone = std::erase_if(keys, [&](const auto& row) { return row.second == key; });
  if (keys.size() >= kAbortedOfARunMax) {
    batch.Delete(families_[kAborted], keys.begin()->second);
    keys.erase(keys.begin());
    ++gone;
  }
  batch.Put(families_[kAborted], key,
            index_records::Encode({.aborted_at = now, .info = WithoutFullShare(info)}));
  no_aborted_before_ = std::min(no_aborted_before_, now);
  CKPT_RETURN_IF_ERROR(Write(batch));
  *aborted_count_ += 1 - gone;
  keys.emplace(now, key);
  aborted_keys_.insert(std::move(known));
  return absl::OkStatus();
}

absl::StatusOr<RocksIndex::AbortedKeys> RocksIndex::AbortedKeysOf(const std::string& run) {
  AbortedKeys keys;
  CKPT_RETURN_IF_ERROR(
      ForEachRow(kAborted, index_keys::RunPrefix(run), false,
                 [&](absl::string_view key, absl::string_view row) -> absl::StatusOr<bool> {
                   CKPT_ASSIGN_OR_RETURN(const index_records::AbortedRow aborted,
                                         index_records::DecodeAborted(row));
                   keys.emplace(aborted.aborted_at, key);
                   return true;
                 }));
  return keys;
}

// Whoever makes up names of runs fills no disk: of too many the older half goes.
absl::Status RocksIndex::MakeRoomForAborted() {
  if (aborted_count_.has_value() && *aborted_count_ < kAbortedInIndexMax) return absl::OkStatus();
  std::vector<absl::Time> times;
  CKPT_RETURN_IF_ERROR(ForEachRow(
      kAborted, "", false, [&](absl::string_view, absl::string_view row) -> absl::StatusOr<bool> {
        const auto aborted = index_records::DecodeAborted(row);
        times.push_back(aborted.ok() ? aborted->aborted_at : absl::Now());
        return true;
      }));
  aborted_count_ = times.size();
  if (times.size() < kAbortedInIndexMax) return absl::OkStatus();
  const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
  std::nth_element(times.begin(), middle, times.end());
  return ForgetBefore(*middle);
}

absl::Status RocksIndex::ForgetAbortedBefore(absl::Time time) {
  MutexLock lock(write_mutex_);
  return ForgetBefore(time);
}

absl::Status RocksIndex::ForgetBefore(absl::Time time) {
  if (no_aborted_before_ >= time) return absl::OkStatus();
  absl::Time oldest = absl::InfiniteFuture();
  size_t kept = 0;
  absl::flat_hash_set<std::string> runs_kept;
  absl::flat_hash_set<std::string> runs_gone;
  rocksdb::WriteBatch batch;
  CKPT_RETURN_IF_ERROR(
      ForEachRow(kAborted, "", false,
                 [&](absl::string_view key, absl::string_view row) -> absl::StatusOr<bool> {
                   CKPT_ASSIGN_OR_RETURN(const index_records::AbortedRow aborted,
                                         index_records::DecodeAborted(row));
                   if (aborted.aborted_at < time) {
                     batch.Delete(families_[kAborted], SliceOf(key));
                     runs_gone.insert(aborted.info.id().run());
                   } else {
                     oldest = std::min(oldest, aborted.aborted_at);
                     ++kept;
                     runs_kept.insert(aborted.info.id().run());
                   }
                   return true;
                 }));
  for (const std::string& name : runs_gone) {
    if (runs_kept.contains(name)) continue;
    CKPT_ASSIGN_OR_RETURN(const index_records::RunRow run, RunRowOf(name));
    if (run.checkpoint_count == 0) batch.Delete(families_[kRuns], name);
  }
  if (batch.Count() > 0) {
    aborted_keys_.clear();
    CKPT_RETURN_IF_ERROR(Write(batch));
  }
  no_aborted_before_ = oldest;
  aborted_count_ = kept;
  return absl::OkStatus();
}

absl::StatusOr<v1::CheckpointInfo> RocksIndex::FindAborted(const CheckpointId& id) {
  const std::string prefix = id.incarnation.none() ? index_keys::StepPrefix(id.run, id.step)
                                                   : index_keys::IncarnationPrefix(id);
  absl::StatusOr<v1::CheckpointInfo> found =
      absl::NotFoundError(absl::StrCat("no aborted checkpoint ", id.run, "@", id.step));
  CKPT_RETURN_IF_ERROR(
      ForEachRow(kAborted, prefix, /*descending=*/true,
                 [&](absl::string_view, absl::string_view row) -> absl::StatusOr<bool> {
                   CKPT_ASSIGN_OR_RETURN(index_records::AbortedRow aborted,
                                         index_records::DecodeAborted(row));
                   found = std::move(aborted.info);
                   FillShare(*found);
                   return false;
                 }));
  return found;
}

absl::Status RocksIndex::ForEachAborted(const std::string& run,
                                        absl::FunctionRef<bool(const v1::CheckpointInfo&)> visit) {
  const std::string prefix = run.empty() ? std::string() : index_keys::RunPrefix(run);
  return ForEachRow(kAborted, prefix, /*descending=*/true,
                    [&](absl::string_view, absl::string_view row) -> absl::StatusOr<bool> {
                      CKPT_ASSIGN_OR_RETURN(index_records::AbortedRow aborted,
                                            index_records::DecodeAborted(row));
                      FillShare(aborted.info);
                      return visit(aborted.info);
                    });
}

}  // namespace ckpt
