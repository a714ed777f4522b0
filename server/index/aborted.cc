// Aborted checkpoints, kept for a while so that whoever waits learns why.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "server/index/rocks_index.h"

namespace ckpt {

namespace {

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
  std::optional<AbortedRows> rows = std::exchange(last_aborted_, std::nullopt);
  if (!rows.has_value() || rows->run != id.run) {
    CKPT_ASSIGN_OR_RETURN(rows, AbortedRowsOf(id.run));
  }
  const std::string key = index_keys::Checkpoint(id, uid);
  const absl::Time now = absl::FromUnixMicros(absl::ToUnixMicros(absl::Now()));  // as rows say
  std::erase_if(rows->keys, [&](const auto& row) { return row.second == key; });
  if (rows->keys.size() >= kAbortedOfARunMax) {
    batch.Delete(families_[kAborted], rows->keys.begin()->second);
    rows->keys.erase(rows->keys.begin());
  }
  batch.Put(families_[kAborted], key,
            index_records::Encode({.aborted_at = now, .info = WithoutFullShare(info)}));
  CKPT_RETURN_IF_ERROR(Write(batch));
  rows->keys.emplace(now, key);
  last_aborted_ = std::move(rows);
  no_aborted_before_ = std::min(no_aborted_before_, now);
  return absl::OkStatus();
}

absl::StatusOr<RocksIndex::AbortedRows> RocksIndex::AbortedRowsOf(const std::string& run) {
  AbortedRows rows{run, {}};
  CKPT_RETURN_IF_ERROR(
      ForEachRow(kAborted, index_keys::RunPrefix(run), false,
                 [&](absl::string_view key, absl::string_view row) -> absl::StatusOr<bool> {
                   CKPT_ASSIGN_OR_RETURN(const index_records::AbortedRow aborted,
                                         index_records::DecodeAborted(row));
                   rows.keys.emplace(aborted.aborted_at, key);
                   return true;
                 }));
  return rows;
}

absl::Status RocksIndex::ForgetAbortedBefore(absl::Time time) {
  MutexLock lock(write_mutex_);
  if (no_aborted_before_ >= time) return absl::OkStatus();
  absl::Time oldest = absl::InfiniteFuture();
  rocksdb::WriteBatch batch;
  CKPT_RETURN_IF_ERROR(
      ForEachRow(kAborted, "", false,
                 [&](absl::string_view key, absl::string_view row) -> absl::StatusOr<bool> {
                   CKPT_ASSIGN_OR_RETURN(const index_records::AbortedRow aborted,
                                         index_records::DecodeAborted(row));
                   if (aborted.aborted_at < time) {
                     batch.Delete(families_[kAborted], SliceOf(key));
                   } else {
                     oldest = std::min(oldest, aborted.aborted_at);
                   }
                   return true;
                 }));
  if (batch.Count() > 0) {
    last_aborted_.reset();
    CKPT_RETURN_IF_ERROR(Write(batch));
  }
  no_aborted_before_ = oldest;
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
