// Index over RocksDB. Private to this room: the only header that includes RocksDB.
//
// Reads take no lock (RocksDB gives each a consistent view). Writes that read first (reference
// counts, totals, tags) are serialized by write_mutex_; each ends with one synced batch.
#ifndef CKPT_SERVER_INDEX_ROCKS_INDEX_H_
#define CKPT_SERVER_INDEX_ROCKS_INDEX_H_

#include <array>
#include <atomic>
#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "common/mutex.h"
#include "rocksdb/db.h"
#include "rocksdb/write_batch.h"
#include "server/index/index.h"
#include "server/index/keys.h"
#include "server/index/record.h"

namespace ckpt {

enum Family {
  kDefault,  // the index's own: format version, whether it awaits confirmation, what is damaged
  kCheckpoints,
  kAttempts,
  kParts,
  kLayouts,
  kLeaves,
  kFiles,
  kRuns,
  kTags,
  kAborted,
  kTasks,
  kFamilyCount
};

// What a table is called until the index has taken it in: removed when an index is opened.
inline constexpr absl::string_view kTableSuffix = ".table";

// OK, or the RocksDB error in our words. NotFound is NOT_FOUND.
absl::Status FromRocks(const rocksdb::Status& status);
inline rocksdb::Slice SliceOf(absl::string_view text) { return {text.data(), text.size()}; }
inline absl::string_view ViewOf(const rocksdb::Slice& slice) {
  return {slice.data(), slice.size()};
}

class RocksIndex : public Index {
 public:
  RocksIndex(std::unique_ptr<rocksdb::DB> db,
             std::array<rocksdb::ColumnFamilyHandle*, kFamilyCount> families);
  ~RocksIndex() override;

  absl::Status PutCheckpoint(const v1::CheckpointManifest& manifest,
                             const std::vector<v1::PartManifest>& parts,
                             const v1::Labels& labels,
                             absl::Span<const std::shared_ptr<const PartLayout>> layouts) override;
  absl::Status PutLabels(CheckpointUid uid, const v1::Labels& labels) override;
  absl::Status PutComparison(CheckpointUid uid, uint64_t compared_step,
                             uint64_t identical_bytes) override;
  absl::Status PutDamage(CheckpointUid uid, const std::optional<DamageRecord>& damage) override;
  absl::Status Tombstone(CheckpointUid uid) override;
  absl::Status FinishTombstone(CheckpointUid uid) override;
  absl::Status PutAborted(const v1::CheckpointInfo& info) override;
  absl::Status ForgetAbortedBefore(absl::Time time) override;

  absl::StatusOr<CheckpointRecord> GetCheckpoint(CheckpointUid uid) override;
  absl::StatusOr<CheckpointRecord> FindStep(const std::string& run, uint64_t step,
                                            std::optional<Incarnation> incarnation) override;
  absl::StatusOr<CheckpointRecord> FindLatest(const std::string& run, uint64_t step_max,
                                              bool whole_only) override;
  absl::StatusOr<CheckpointRecord> FindTag(const std::string& run, const std::string& tag) override;
  absl::StatusOr<v1::CheckpointInfo> FindAborted(const CheckpointId& id) override;
  absl::StatusOr<std::optional<Incarnation>> NewestIncarnation(const std::string& run) override;
  absl::Status ForEachCheckpoint(const std::string& run, std::optional<uint64_t> below_step,
                                 absl::FunctionRef<bool(const CheckpointRecord&)> visit) override;
  absl::Status ForEachAborted(const std::string& run,
                              absl::FunctionRef<bool(const v1::CheckpointInfo&)> visit) override;
  absl::Status ForEachRun(const std::string& prefix, const std::string& after,
                          absl::FunctionRef<bool(const v1::RunInfo&)> visit) override;
  absl::Status ForEachRunTotals(
      const std::string& prefix,
      absl::FunctionRef<void(absl::string_view run, uint64_t checkpoints, uint64_t data_bytes)>
          visit) override;
  absl::StatusOr<std::unique_ptr<LeafCursor>> OpenLeaves(
      const std::string& layout_digest) override;
  absl::StatusOr<std::vector<CheckpointUid>> Tombstones() override;
  absl::Status ForEachDamage(
      absl::FunctionRef<void(CheckpointUid, const DamageRecord&)> visit) override;
  absl::StatusOr<CheckpointRecord> GetTombstone(CheckpointUid uid) override;
  absl::Status ForEachFile(absl::FunctionRef<bool(FileId, CheckpointUid)> visit) override;
  absl::StatusOr<bool> IsShared(FileId file, CheckpointUid uid) override;
  absl::StatusOr<std::vector<CheckpointUid>> AllCheckpoints() override;
  absl::StatusOr<v1::PartManifest> GetPartHead(CheckpointUid uid, uint32_t rank) override;
  absl::StatusOr<std::vector<uint64_t>> ReadBlockHashes(CheckpointUid uid, uint32_t rank,
                                                        uint64_t row) override;
  absl::StatusOr<ValueRow> ReadValues(CheckpointUid uid, uint32_t rank,
                                      absl::string_view printed_key) override;
  std::shared_ptr<const PartLayout> FindLayout(const std::string& digest) override;
  void KeepLayout(std::shared_ptr<const PartLayout> layout) override;
  absl::Status PrepareLayout(const PartLayout& layout) override;
  void ForgetLayoutsUnusedSince(absl::Time time) override;
  absl::Status VerifyFiles() override;
  uint64_t CheckpointCount() override;
  absl::StatusOr<bool> AwaitsConfirmation() override;
  absl::Status AwaitConfirmation() override;
  absl::StatusOr<bool> KnowsPolicies() override;
  absl::Status SetKnowsPolicies(bool known) override;
  absl::Status Confirm() override;

  // Rows of format 1 become rows of today's (upgrade.cc). Cut off by a crash it is done again.
  absl::Status UpgradeFromFormat1();
  // Leaves of layouts that nobody references, left by writes that a crash cut off: removed at
  // start.
  absl::Status SweepLayouts();
  // Before anybody else uses it.
  void TellTroubles(IndexTroubles troubles) { troubles_ = std::move(troubles); }

 private:
  struct CachedLayout {
    std::shared_ptr<const PartLayout> layout;
    uint64_t bytes;
    absl::Time used_at;
  };

  absl::StatusOr<std::string> Get(Family family, absl::string_view key);
  absl::StatusOr<bool> HasMark(const char* key);
  absl::Status SetMark(const char* key, bool there);
  absl::Status Write(rocksdb::WriteBatch& batch);  // synced
  // What a write of what must be found ends with. After another one that failed (a comparison, a
  // large layout's table) the next of these tells.
  absl::Status Written(const rocksdb::Status& status);
  // What any other write ends with.
  absl::Status Fitted(const rocksdb::Status& status);
  // An iterator over the rows of `family` in [lower, upper); not yet positioned. The bounds must
  // outlive it.
  std::unique_ptr<rocksdb::Iterator> Scan(Family family, const rocksdb::Slice* lower,
                                          const rocksdb::Slice* upper);
  // All rows with a prefix, ascending or descending.
  absl::Status ForEachRow(
      Family family, absl::string_view prefix, bool descending,
      absl::FunctionRef<absl::StatusOr<bool>(absl::string_view key, absl::string_view row)> visit);

  // The ids that the keys of `family` are.
  absl::StatusOr<std::vector<CheckpointUid>> UidsOf(Family family);
  absl::StatusOr<index_records::RunRow> RunRowOf(const std::string& run);
  absl::StatusOr<uint64_t> LayoutCount(const std::string& digest);
  // Whether its rows are there.
  absl::StatusOr<bool> KnowsLayout(const std::string& digest)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mutex_);
  // Rows of a part's layout, all but its reference count, where there are none yet.
  absl::Status EnsureLayout(const PartLayout& layout) ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mutex_);
  // `layout` unless it is null; else a known one, or the manifest's. DATA_LOSS where that is not of
  // the digest that the manifest names.
  absl::StatusOr<std::shared_ptr<const PartLayout>> LayoutOf(
      const v1::PartManifest& part, std::shared_ptr<const PartLayout> layout);
  // The rows of a large layout, as a file beside the index's, which goes when this does.
  struct LayoutTable {
    rocksdb::Env* const env;
    const std::string path;
    ~LayoutTable();
  };
  absl::StatusOr<std::unique_ptr<LayoutTable>> MakeTable(const PartLayout& layout);
  // A crash in between leaves rows that nobody looks for yet. A large layout's come as a table that
  // the index takes in, `table` where it was made before.
  absl::Status WriteLeaves(const PartLayout& layout, std::unique_ptr<LayoutTable> table);
  absl::Status DeleteLeaves(rocksdb::WriteBatch& batch, const std::string& digest);
  // Head, values and hashes. `layout` is the part's.
  absl::Status PutPart(rocksdb::WriteBatch& batch, CheckpointUid uid, const v1::PartManifest& part,
                       const PartLayout& layout);
  std::shared_ptr<const PartLayout> FindInCache(const std::string& digest);
  void ForgetCachedSince(absl::Time time);
  absl::Status RemoveLayout(rocksdb::WriteBatch& batch, const std::string& digest)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mutex_);
  absl::Status ReplaceLabels(rocksdb::WriteBatch& batch, const std::string& key,
                             CheckpointRecord record, const v1::Labels& labels)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mutex_);
  absl::Status ClaimTags(rocksdb::WriteBatch& batch, const std::string& run, CheckpointUid uid,
                         const v1::Labels& labels) ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mutex_);

  const std::unique_ptr<rocksdb::DB> db_;
  const std::array<rocksdb::ColumnFamilyHandle*, kFamilyCount> families_;
  IndexTroubles troubles_;  // set before the first write
  Mutex write_mutex_;      // taken before cache_mutex_
  // Layouts whose rows are there before a checkpoint that references them, and since when.
  absl::flat_hash_map<std::string, absl::Time> prepared_ ABSL_GUARDED_BY(write_mutex_);
  // Rows of aborted checkpoints come and go, and a scan passes over all that went. So the keys of
  // the runs that had one lately are kept, oldest first (all are dropped when the runs are many),
  // the number of all rows, and a time before which there is none.
  using AbortedKeys = std::set<std::pair<absl::Time, std::string>>;
  absl::StatusOr<AbortedKeys> AbortedKeysOf(const std::string& run);
  absl::Status MakeRoomForAborted() ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mutex_);
  absl::Status ForgetBefore(absl::Time time) ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mutex_);
  absl::flat_hash_map<std::string, AbortedKeys> aborted_keys_ ABSL_GUARDED_BY(write_mutex_);
  std::optional<size_t> aborted_count_ ABSL_GUARDED_BY(write_mutex_);  // nullopt: not counted yet
  absl::Time no_aborted_before_ ABSL_GUARDED_BY(write_mutex_) = absl::InfinitePast();
  std::atomic<uint64_t> tables_made_{0};
  Mutex cache_mutex_;
  // Parsed layouts, most recently used first; together at most kLayoutCacheBytes in memory, but
  // always one.
  std::deque<CachedLayout> layout_cache_ ABSL_GUARDED_BY(cache_mutex_);
};

}  // namespace ckpt

#endif  // CKPT_SERVER_INDEX_ROCKS_INDEX_H_
