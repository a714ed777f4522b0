// Runs: totals, and the newest incarnation.
#include <algorithm>

#include "common/status_macros.h"
#include "server/index/rocks_index.h"

namespace ckpt {

absl::StatusOr<std::optional<Incarnation>> RocksIndex::NewestIncarnation(const std::string& run) {
  CKPT_ASSIGN_OR_RETURN(const index_records::RunRow row, RunRowOf(run));
  if (row.newest_incarnation.none()) return std::nullopt;
  return row.newest_incarnation;
}

absl::Status RocksIndex::ForEachRun(const std::string& prefix, const std::string& after,
                                    absl::FunctionRef<bool(const v1::RunInfo&)> visit) {
  const std::string begin = after.empty() ? prefix : std::max(prefix, after + '\0');
  const std::string end = index_keys::After(prefix);
  const rocksdb::Slice lower = SliceOf(begin);
  const rocksdb::Slice upper = SliceOf(end);
  auto rows = Scan(kRuns, &lower, end.empty() ? nullptr : &upper);
  for (rows->SeekToFirst(); rows->Valid(); rows->Next()) {
    CKPT_ASSIGN_OR_RETURN(const index_records::RunRow row,
                          index_records::DecodeRun(ViewOf(rows->value())));
    if (row.checkpoint_count == 0) continue;  // only its newest incarnation is remembered
    v1::RunInfo info;
    info.set_run(std::string(ViewOf(rows->key())));
    info.set_checkpoint_count(row.checkpoint_count);
    info.set_data_bytes(row.data_bytes);
    CKPT_RETURN_IF_ERROR(
        ForEachCheckpoint(info.run(), std::nullopt, [&](const CheckpointRecord& record) {
          info.set_latest_committed_step(record.manifest.id().step());
          return false;
        }));
    if (!visit(info)) return absl::OkStatus();
  }
  return FromRocks(rows->status());
}

absl::Status RocksIndex::ForEachRunTotals(
    const std::string& prefix,
    absl::FunctionRef<void(absl::string_view run, uint64_t checkpoints, uint64_t data_bytes)>
        visit) {
  const std::string end = index_keys::After(prefix);
  const rocksdb::Slice lower = SliceOf(prefix);
  const rocksdb::Slice upper = SliceOf(end);
  auto rows = Scan(kRuns, &lower, end.empty() ? nullptr : &upper);
  for (rows->SeekToFirst(); rows->Valid(); rows->Next()) {
    CKPT_ASSIGN_OR_RETURN(const index_records::RunRow row,
                          index_records::DecodeRun(ViewOf(rows->value())));
    visit(ViewOf(rows->key()), row.checkpoint_count, row.data_bytes);
  }
  return FromRocks(rows->status());
}

}  // namespace ckpt
