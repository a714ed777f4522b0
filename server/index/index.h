// The catalogue of what is durable: RocksDB, derived from manifests, may be thrown away and
// rebuilt. No other room includes RocksDB, and no RocksDB type stands here. Thread-safe. Any call
// may end with DATA_LOSS where what it reads is damaged: nothing is passed over. Every write is one
// batch, and synced, but for PutCheckpoint's and PutComparison's: what a power cut takes of the
// former, recovery finds again by the manifests.
//
// Column families (keys.h): checkpoints (run 0x00 step incarnation uid -> CheckpointRecord),
// attempts (uid -> that key), parts (uid rank -> PartManifest without layout, values and hashes;
// behind it its values and block hashes, in rows of their own), layouts (digest -> reference
// count), leaves (digest printed-key -> some dozens of leaves from that key on, with their
// shards), files (file id uid -> nothing: who references a file), runs (run -> totals), tags (run
// 0x00 tag -> uid), aborted (run 0x00 step incarnation uid -> CheckpointInfo), tasks (uid ->
// CheckpointRecord of a deletion to be finished), and the default one, with the format's number and
// what is damaged (uid -> DamageRecord). "Newest step of a run" and "keys with a prefix"
// are seeks, and one leaf of a million costs as much as one of ten.
#ifndef CKPT_SERVER_INDEX_INDEX_H_
#define CKPT_SERVER_INDEX_INDEX_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "ckpt/v1/catalog.pb.h"
#include "ckpt/v1/checkpoint.pb.h"
#include "common/checkpoint_id.h"
#include "common/ids.h"
#include "common/layout.h"
#include "server/index/leaf_cursor.h"

namespace ckpt {

// What the index keeps of one committed checkpoint, without its leaves.
struct CheckpointRecord {
  v1::CheckpointManifest manifest;
  v1::Labels labels;
  uint64_t shard_count = 0;
  uint64_t data_bytes = 0;
  // With the checkpoint before it, once it has been compared: PutComparison.
  std::optional<uint64_t> compared_step;
  uint64_t identical_bytes = 0;
};

// What the last whole read of a checkpoint has found damaged.
struct DamageRecord {
  uint32_t places = 0;
  std::string first;         // file, key and offset
  bool labels_only = false;  // restores as it was saved
};

// Some of a part's plain values: all those whose leaves' printed keys lie in [from, until).
struct ValueRow {
  std::string from;
  std::string until;  // empty: to the end
  v1::Values values;
};

// What stands between the index and the machine, for tests (environment.h).
struct IndexEnvironment;

// Of one run; older reasons are forgotten.
inline constexpr size_t kAbortedOfARunMax = 256;
inline constexpr size_t kAbortedInIndexMax = 65536;  // then the older half goes

// Both are called by a write that failed, from its thread and before it returns; either may be
// null.
struct IndexTroubles {
  // The disk is full. Once there is room batches are taken again, within some seconds.
  std::function<void()> full;
  // Anything else: no batch is taken any more until the index is opened again, and what was just
  // committed is not found in it.
  std::function<void(const absl::Status& why)> broken;
};

class Index {
 public:
  // `path` is the folder. An index of an older format is brought up to date first. DATA_LOSS:
  // damaged, FAILED_PRECONDITION: a newer format; both with the way out (ckptutil rebuild-index).
  // RESOURCE_EXHAUSTED: no disk space.
  static absl::StatusOr<std::unique_ptr<Index>> Open(const std::string& path,
                                                     IndexEnvironment* environment = nullptr,
                                                     IndexTroubles troubles = {});
  virtual ~Index() = default;

  // --- writing; synced before they return, where nothing else is said
  // A committed checkpoint, its manifest durable, with its part manifests. `layouts` are theirs, in
  // the same order, where the manifests do not carry them.
  // Idempotent: a second call replaces the labels and nothing else. FAILED_PRECONDITION for one
  // that has a tombstone. A tag that another checkpoint of the run has moves to this one.
  virtual absl::Status PutCheckpoint(
      const v1::CheckpointManifest& manifest, const std::vector<v1::PartManifest>& parts,
      const v1::Labels& labels,
      absl::Span<const std::shared_ptr<const PartLayout>> layouts = {}) = 0;
  // NOT_FOUND. Tags move as in PutCheckpoint.
  virtual absl::Status PutLabels(CheckpointUid uid, const v1::Labels& labels) = 0;
  // How much of it the run's checkpoint at `compared_step` held already. NOT_FOUND. Not synced:
  // lost with a power cut or a rebuilt index, and then only unset.
  virtual absl::Status PutComparison(CheckpointUid uid, uint64_t compared_step,
                                     uint64_t identical_bytes) = 0;
  // What is damaged of it; nullopt: nothing, any more. No manifest says so: a rebuilt index knows of
  // none. Goes with the checkpoint. NOT_FOUND.
  virtual absl::Status PutDamage(CheckpointUid uid, const std::optional<DamageRecord>& damage) = 0;
  // Hides the checkpoint and remembers that its files must go (a tombstone): one batch. NOT_FOUND.
  virtual absl::Status Tombstone(CheckpointUid uid) = 0;
  // Forgets it altogether, once its files are gone. OK where there is none.
  virtual absl::Status FinishTombstone(CheckpointUid uid) = 0;
  // Aborted checkpoints, kept for a day so that Wait can say why: of each run the newest
  // kAbortedOfARunMax, and of all kAbortedInIndexMax. A run that has none any more, and nothing
  // committed, is forgotten with its newest incarnation. `uid` as for committed ones.
  virtual absl::Status PutAborted(const v1::CheckpointInfo& info) = 0;
  virtual absl::Status ForgetAbortedBefore(absl::Time time) = 0;

  // --- reading
  virtual absl::StatusOr<CheckpointRecord> GetCheckpoint(CheckpointUid uid) = 0;  // NOT_FOUND
  // Of (run, step): the winner (greatest incarnation, then greatest uid), or exactly `incarnation`
  // if given. NOT_FOUND.
  virtual absl::StatusOr<CheckpointRecord> FindStep(const std::string& run, uint64_t step,
                                                    std::optional<Incarnation> incarnation) = 0;
  // Newest committed step at or below `step_max`. NOT_FOUND. `whole_only`: skip shares smaller than
  // the world.
  virtual absl::StatusOr<CheckpointRecord> FindLatest(const std::string& run, uint64_t step_max,
                                                      bool whole_only) = 0;
  virtual absl::StatusOr<CheckpointRecord> FindTag(const std::string& run,
                                                   const std::string& tag) = 0;  // NOT_FOUND
  virtual absl::StatusOr<v1::CheckpointInfo> FindAborted(const CheckpointId& id) = 0;  // NOT_FOUND
  // The greatest incarnation that the run has (committed or aborted). nullopt: none.
  virtual absl::StatusOr<std::optional<Incarnation>> NewestIncarnation(const std::string& run) = 0;

  // Winners only, newest step first, from `after` (exclusive: steps below it) on; stops when
  // `visit` returns false.
  virtual absl::Status ForEachCheckpoint(
      const std::string& run, std::optional<uint64_t> below_step,
      absl::FunctionRef<bool(const CheckpointRecord&)> visit) = 0;
  virtual absl::Status ForEachAborted(const std::string& run,
                                      absl::FunctionRef<bool(const v1::CheckpointInfo&)> visit) = 0;
  // In name order, from `after` (exclusive) on, with that prefix.
  virtual absl::Status ForEachRun(const std::string& prefix, const std::string& after,
                                  absl::FunctionRef<bool(const v1::RunInfo&)> visit) = 0;
  // The totals of every run with that prefix, in name order, those without checkpoints too: a scan
  // of small rows.
  virtual absl::Status ForEachRunTotals(
      const std::string& prefix,
      absl::FunctionRef<void(absl::string_view run, uint64_t checkpoints, uint64_t data_bytes)>
          visit) = 0;
  // The leaves of a layout, standing nowhere yet. It goes on reading what was there when it was
  // opened, whatever is deleted meanwhile, and must not outlive the index. NOT_FOUND: unknown
  // layout.
  virtual absl::StatusOr<std::unique_ptr<LeafCursor>> OpenLeaves(
      const std::string& layout_digest) = 0;
  virtual absl::Status ForEachDamage(
      absl::FunctionRef<void(CheckpointUid, const DamageRecord&)> visit) = 0;
  virtual absl::StatusOr<std::vector<CheckpointUid>> Tombstones() = 0;
  virtual absl::StatusOr<CheckpointRecord> GetTombstone(CheckpointUid uid) = 0;  // NOT_FOUND
  // Data files and part manifests with the checkpoint that references them, tombstoned ones
  // included. A file that several reference is visited several times.
  virtual absl::Status ForEachFile(absl::FunctionRef<bool(FileId, CheckpointUid)> visit) = 0;
  // True when a checkpoint other than `uid` references the file: it must stay.
  virtual absl::StatusOr<bool> IsShared(FileId file, CheckpointUid uid) = 0;
  virtual absl::StatusOr<std::vector<CheckpointUid>> AllCheckpoints() = 0;
  // The manifest of one part without its layout, values and block hashes. NOT_FOUND.
  virtual absl::StatusOr<v1::PartManifest> GetPartHead(CheckpointUid uid, uint32_t rank) = 0;
  // Of the part's block hashes those from kHashesPerRow * row on, as many or, at the end, fewer.
  // NOT_FOUND: there are none.
  static constexpr uint64_t kHashesPerRow = 1024;
  virtual absl::StatusOr<std::vector<uint64_t>> ReadBlockHashes(CheckpointUid uid, uint32_t rank,
                                                                uint64_t row) = 0;
  // The values around that key. A part that is unknown has none.
  virtual absl::StatusOr<ValueRow> ReadValues(CheckpointUid uid, uint32_t rank,
                                              absl::string_view printed_key) = 0;
  // Null: unknown, or not used for long. One that was kept, or found before, may be known for
  // longer than a checkpoint references it: a layout is what its digest says, so that harms nobody.
  virtual std::shared_ptr<const PartLayout> FindLayout(const std::string& digest) = 0;
  // In memory only, so that FindLayout knows it before its first checkpoint commits.
  virtual void KeepLayout(std::shared_ptr<const PartLayout> layout) = 0;
  // Writes a layout's rows before its first checkpoint, which has less to do then. Those of a
  // checkpoint that never comes are removed with ForgetLayoutsUnusedSince.
  virtual absl::Status PrepareLayout(const PartLayout& layout) = 0;
  // Parsed layouts are kept in memory; a job that has ended needs none. FindLayout still finds what
  // a checkpoint references.
  virtual void ForgetLayoutsUnusedSince(absl::Time time) = 0;
  // Reads every file of it, all checksums. DATA_LOSS.
  virtual absl::Status VerifyFiles() = 0;
  // Of runs that can be read; where one cannot, that is logged.
  virtual uint64_t CheckpointCount() = 0;
  // True in an index that was made anew, and after AwaitConfirmation, until Confirm: what it was
  // told by manifests may be less, or more, than somebody wanted there, and nothing is deleted on
  // its word alone.
  virtual absl::StatusOr<bool> AwaitsConfirmation() = 0;
  virtual absl::Status AwaitConfirmation() = 0;
  virtual absl::Status Confirm() = 0;  // idempotent
  // Whether runs have policies of their own: then there is a file of them.
  virtual absl::StatusOr<bool> KnowsPolicies() = 0;
  virtual absl::Status SetKnowsPolicies(bool known) = 0;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_INDEX_INDEX_H_
