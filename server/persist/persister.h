// Makes parts durable and commits checkpoints: the numbered protocol of design section 4.5 stands
// in persist_part.cc and commit.cc.
//
// Threads: one reader-and-hasher per part at work (at most `parts_at_once`, the others queue),
// feeding a pool of writers shared by all parts through buffers whose bytes are bounded by
// `buffer_bytes_max`. Callbacks run on the daemon's threads and must not block for long.
#ifndef CKPT_SERVER_PERSIST_PERSISTER_H_
#define CKPT_SERVER_PERSIST_PERSISTER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ckpt/v1/checkpoint.pb.h"
#include "common/checkpoint_id.h"
#include "common/layout.h"
#include "server/index/index.h"
#include "server/persist/part_source.h"
#include "server/storage/ballast.h"
#include "server/storage/data_folder.h"

namespace ckpt {

struct PersistOptions {
  int parts_at_once = 8;  // >= ranks of a share on this node, or a ring behind a full queue would
                          // wait for ever: rings never queue
  int writer_threads = 4;
  uint64_t write_bytes = 8 << 20;         // one write; a multiple of 1 MiB
  uint64_t buffer_bytes_max = 256 << 20;  // all buffers together
  // Tests and demonstrations: a part that isn't streaming waits so long before step 1. The
  // destructor cuts that short.
  absl::Duration delay = absl::ZeroDuration();
  Ballast* ballast = nullptr;  // outlives the persister
  // Benchmarks: false leaves the hashes of blocks 0, so that what hashing costs can be measured.
  // What is saved so fails every check.
  bool hash_blocks = true;
};

struct PartToPersist {
  CheckpointId id;
  CheckpointUid uid;
  uint32_t rank = 0;
  uint32_t world_size = 0;
  std::vector<uint32_t> share;  // sorted
  std::shared_ptr<const PartLayout> layout;
  v1::Values values;
  std::shared_ptr<PartSource> source;
  bool streaming = false;  // the writer is still at work (a ring): must not wait in the queue
};

struct DurablePart {
  v1::PartReference reference;
  v1::PartManifest manifest;                 // without its layout
  std::shared_ptr<const PartLayout> layout;
  absl::Time durable_at = absl::InfinitePast();  // when its last byte was synced; unset: adopted
};

class Persister {
 public:
  Persister(DataFolder* folder, Index* index, PersistOptions options);
  ~Persister();  // waits for parts at work

  // RESOURCE_EXHAUSTED when the disk has no room for the part beside what is already reserved.
  // Reserves it until the part is durable, failed, or ReleaseReservation. Call it before a byte is
  // accepted.
  absl::Status Reserve(uint64_t part_bytes);
  void ReleaseReservation(uint64_t part_bytes);
  // For every now and then: the ballast takes what room it may.
  void LookAtBallast();

  // Steps 1-5: data files and part manifest durable under their final names. The reservation is
  // released. On failure everything that was written is removed again. `done` is called exactly
  // once.
  using Done = absl::AnyInvocable<void(absl::StatusOr<DurablePart>)>;
  void Persist(PartToPersist part, Done done);

  // Steps 6-9: all parts durable -> checkpoint manifest (committed) -> index batch; then an attempt
  // that is replaced is tombstoned and deleted (unless it is pinned or tagged). Blocking; returns
  // after the commit point is durable. `parts` in rank order. Idempotent for one uid. An error
  // means: not committed, the parts may be discarded. A failure after the commit point is logged.
  absl::StatusOr<CheckpointRecord> Commit(const CheckpointId& id, CheckpointUid uid,
                                          uint32_t world_size, const std::vector<uint32_t>& share,
                                          const std::vector<DurablePart>& parts);

  // Compares a committed checkpoint with the one before it in its run (compare_parts.h). For after
  // the commit has been answered: nobody waits for it.
  void Compare(const CheckpointRecord& record);

  // For a committed checkpoint whose index batch failed: that batch again, from the manifests on
  // disk, and what comes after it. NOT_FOUND: it is not committed.
  absl::Status IndexAgain(CheckpointUid uid);

  // An attempt is aborted, and these parts of it had become durable: their files go, and what was
  // prepared for its commit.
  void Discard(CheckpointUid uid, const std::vector<DurablePart>& parts);

  // Tombstone, unlink the checkpoint manifest, sync, unlink the rest (at the last pin). NOT_FOUND.
  absl::Status Delete(CheckpointUid uid);
  // After a Delete that was refused for want of disk space: waits a little, where the index will
  // find the room that the ballast has given up. False: there is nothing to wait for, any more.
  bool AwaitRoom();
  void StopWaiting();  // AwaitRoom returns false from now on

  // The labels' file, which is the truth, then the index; both synced. A commit that replaces the
  // checkpoint comes before, and then it is NOT_FOUND, or after, and sees that it is labelled.
  absl::Status PutLabels(CheckpointUid uid, const v1::Labels& labels);

  uint32_t parts_at_work() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// At start, before serving: compares folder and index by names, indexes manifests that the index
// lacks, finishes deletions, deletes objects that no checkpoint manifest references. `keep_parts`
// names part manifests that are durable, not yet committed, and known to staging's records (parts
// that went through a ring): they and their data files stay. A manifest that does not read
// (DATA_LOSS) is not fatal: it is logged, counted and left alone, and then nothing is deleted as an
// orphan either.
struct RecoveryReport {
  uint64_t checkpoints = 0;
  uint64_t indexed = 0;  // manifests that the index lacked
  uint64_t deletions_finished = 0;
  uint64_t orphans_removed = 0;
  uint64_t damaged = 0;
  std::vector<std::string> damage;  // what is wrong with each, for people
};
absl::StatusOr<RecoveryReport> RecoverDataFolder(DataFolder* folder, Index* index,
                                                 const absl::flat_hash_set<FileId>& keep_parts);

// Only the first half of it: indexes the manifests that the index lacks, and deletes nothing. What
// rebuilding an empty index is.
absl::StatusOr<RecoveryReport> IndexDataFolder(DataFolder* folder, Index* index);

}  // namespace ckpt

#endif  // CKPT_SERVER_PERSIST_PERSISTER_H_
