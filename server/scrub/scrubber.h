// The background scrubber: reads every committed checkpoint (manifests, labels, all bytes) and the
// index's files again and again, so that damage is known before somebody needs the bytes.
//
// A checkpoint is due when its last check, or its commit, is an interval ago. Those that are due
// are read one after another, longest unchecked first, past the page cache, at a bounded rate;
// while parts are being persisted it pauses, for up to a minute at each 8 MiB. Deletion never waits
// for it: files are pinned while they are read, and the read of a checkpoint that was deleted ends
// with the next 8 MiB. Damage is logged line by line, counted, and remembered (known_damage.h).
// Where another tier has good bytes, the file is made anew from these (repair_part.h) and the
// checkpoint read once more. A checkpoint that cannot be read for want of descriptors, memory or
// permission is not called damaged: the others are read, and it with the next pass.
#ifndef CKPT_SERVER_SCRUB_SCRUBBER_H_
#define CKPT_SERVER_SCRUB_SCRUBBER_H_

#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/ids.h"
#include "common/mutex.h"
#include "server/index/index.h"
#include "server/persist/known_damage.h"
#include "server/persist/repair_part.h"
#include "server/storage/data_folder.h"

namespace ckpt {

struct ScrubOptions {
  uint64_t bytes_per_second = 32 << 20;  // 0: does nothing
  absl::Duration interval = absl::Hours(24 * 7);
  std::function<bool()> busy = [] { return false; };  // something more urgent wants the disk
  BlockSource* source = nullptr;  // to repair from; null: only report
};

// Since the start.
struct ScrubStatus {
  uint64_t bytes = 0;           // read
  uint64_t damaged_places = 0;  // found: blocks, headers, files, manifests
  uint64_t repaired_files = 0;
  uint64_t checkpoints_due = 0;  // of the pass under way; 0: none is
  absl::Time pass_ended_at = absl::InfinitePast();  // one that has read all that was due
};

// Thread-safe. What it is given must outlive it.
class Scrubber {
 public:
  Scrubber(DataFolder* folder, Index* index, KnownDamage* known, ScrubOptions options);
  ~Scrubber();  // ends at the next 8 MiB

  void Start();  // the thread, where there is a rate; once
  // One pass over what is due, on the caller's thread. CANCELLED: the scrubber ends. DATA_LOSS: the
  // index is damaged. Any other: what kept it from reading something, which is still due.
  absl::Status Pass();
  ScrubStatus status() const;
  uint64_t bytes_per_second() const { return options_.bytes_per_second; }

 private:
  void Run();
  absl::StatusOr<std::vector<CheckpointUid>> Due() ABSL_EXCLUSIVE_LOCKS_REQUIRED(passing_);
  absl::Status Scrub(CheckpointUid uid);
  // A whole read of it. CANCELLED: the scrubber ends; NOT_FOUND: it was deleted; what VerifyOnDisk
  // says where it could not read.
  absl::StatusOr<VerificationProgress> Read(CheckpointUid uid, const CheckpointRecord& record);
  void RemoveFiles(const v1::PartManifest& part, CheckpointUid uid);
  // How many files were put right.
  uint64_t Repair(CheckpointUid uid, const CheckpointRecord& record);
  bool Pace(uint64_t bytes);  // false: ending

  DataFolder* const folder_;
  Index* const index_;
  KnownDamage* const known_;
  const ScrubOptions options_;
  Mutex passing_;  // one pass at a time; before mutex_
  struct Checked {
    absl::Time at;
    bool damaged = false;  // as it was found then
  };
  absl::flat_hash_map<CheckpointUid, Checked> checked_ ABSL_GUARDED_BY(passing_);
  mutable Mutex mutex_;
  CondVar ending_changed_;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Time next_read_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  ScrubStatus status_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_SCRUB_SCRUBBER_H_
