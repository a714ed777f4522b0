// The memory tier: tmpfs files that the daemon allocates, lends to clients, takes back and
// recycles.
//
// What a file is, at any time:
//   idle       in the pool: prepared, or given back; recycled over the session that mapped it, for
//              the run whose bytes it has held
//   in use     a part is being written into it, or is staged and not yet durable
//   durable    its part is on disk, its checkpoint not yet committed: given up when memory is
//              wanted
//   copy       the memory copy of a part of a COMMITTED checkpoint (MemoryCopies): recycled by the
//              next save, given up when memory is wanted; never while pinned
//   revoking   its session was asked to unmap it; unlinked when that is answered or the session
//              ends
//   unlinked   gone by name, but somebody (a mapping, a forked child) still holds its pages
//
// A file that has held bytes of a run is never used for another one: whoever has it open or mapped,
// or reads behind the end of a shorter part, sees what its run's readers may see and nothing else
// (decisions/2026-11-29-a-file-stays-with-its-run.md).
//
// The budget counts the pages of all of them. An unlinked file counts until the kernel says that
// nobody else has it open (a write lease can be taken), so a client that lies about unmapping
// cannot make the daemon allocate more than it may. Records (plan, layout, marks) of parts whose
// file is here are counted in what is reported as used; a sixteenth of the budget of them is not
// held against a part that would just fit, what goes beyond is. Records that stay when the file of
// a durable part is given up, until it commits, are not counted.
//
// When the budget is full: first pages that nobody waits for (ended sessions, idle files, older
// copies, durable parts, newest copies, in that order) are unlinked or revoked; what is held by
// parts not yet durable makes the caller wait, go through a ring, or be refused, as it chose.
// Waiting is first come, first served; recycling a file of one's own session never queues.
//
// Thread-safe. Lock order: CheckpointTable's lock before this one; no call out with the lock held.
#ifndef CKPT_SERVER_STAGING_MEMORY_TIER_H_
#define CKPT_SERVER_STAGING_MEMORY_TIER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ckpt/v1/save.pb.h"
#include "common/ids.h"
#include "server/session/session.h"
#include "server/staging/clock.h"
#include "server/staging/memory_copies.h"
#include "server/staging/part_folder.h"
#include "server/staging/staging_file.h"

namespace ckpt {

struct MemoryTierOptions {
  std::string folder;         // on a tmpfs; made if missing; locked against a second daemon
  uint64_t budget_bytes = 0;  // rounded down to whole pages
  uint64_t ring_bytes = 0;    // of one ring; 0: a quarter of the budget
  absl::Duration revoke_timeout = absl::Seconds(10);  // bound of a refusal's wait for revoked pages
  Clock* clock = RealClock::Get();
};

struct MemoryUsage {
  uint64_t budget_bytes = 0;
  // Every page that exists, unlinked ones and records too: it may pass the budget by the records.
  uint64_t used_bytes = 0;
  uint64_t record_bytes = 0;       // of these: plans, layouts and marks of parts that are here
  uint64_t not_durable_bytes = 0;  // of files in use
  uint64_t files = 0;
  bool huge_pages = false;
};

class MemoryTier : public MemoryCopies {
 public:
  // Takes the folder's lock and reads what an earlier daemon left there: parts with the mark
  // `staged` are kept for CheckpointTable::Adopt, everything else is unlinked. FAILED_PRECONDITION:
  // another process has the folder.
  static absl::StatusOr<std::unique_ptr<MemoryTier>> Open(MemoryTierOptions options);
  // Closes; leaves staged parts and copies where they are. All pins must be gone.
  ~MemoryTier() override = default;

  virtual MemoryUsage usage() = 0;
  // Part manifests that the records of adopted parts name as durable: RecoverDataFolder's
  // keep_parts. Before CheckpointTable::Adopt.
  virtual absl::flat_hash_set<FileId> RecordedPartManifests() const = 0;

  // --- for Prepare
  struct Prepared {
    std::vector<FileId> files;
    uint64_t file_bytes = 0;
    bool ring = false;
  };
  // Sees to it that the session has `files` files for parts of that size, granted; fewer where the
  // budget holds fewer, at least one. RESOURCE_EXHAUSTED, UNAVAILABLE (the session ended).
  virtual absl::StatusOr<Prepared> Prepare(const std::shared_ptr<Session>& session,
                                           uint64_t part_bytes, uint32_t files) = 0;

  // --- for the table
  struct Request {
    std::shared_ptr<Session> session;  // null: the daemon itself writes it (stream transport)
    std::string run;
    uint64_t part_bytes = 0;           // > 0
    v1::OnFull on_full = v1::ON_FULL_WAIT;
    absl::Time deadline;                      // of waiting for memory, by the clock
    absl::FunctionRef<absl::Status()> check;  // polled while waiting: an error ends it
    uint64_t ring_bytes_max = 0;  // > 0: a ring of no more than this, whatever there is room for
  };
  // A file for one part, in use, its `data` in `folder`, granted to the session. Smaller than the
  // part: a ring. RESOURCE_EXHAUSTED; UNAVAILABLE: the session ended.
  virtual absl::StatusOr<std::shared_ptr<StagingFile>> Acquire(
      const Request& request, const std::shared_ptr<PartFolder>& folder) = 0;
  // The part is gone (aborted), or went through a ring and is durable: the file is idle again. Its
  // `data` leaves the folder.
  virtual void Release(std::shared_ptr<StagingFile> file) = 0;
  virtual void ReleaseId(FileId file) = 0;  // the same of one given to SetDurable
  // The part was aborted before it was finished, so that its client is perhaps still writing: the
  // file is asked back and not granted again.
  virtual void TakeBack(std::shared_ptr<StagingFile> file) = 0;
  // On disk, not committed: may be given up when memory is wanted. The caller gives up its own
  // hold.
  virtual void SetDurable(std::shared_ptr<StagingFile> file) = 0;
  // Committed: the memory copy of that part. False: the file was given up meanwhile.
  virtual bool SetCopy(FileId file, const std::string& run, CheckpointUid uid, uint32_t rank) = 0;
  // The run's newest committed checkpoint: its copies are kept longest; older ones of ended
  // sessions go at once.
  virtual void SetNewest(const std::string& run, CheckpointUid uid) = 0;

  virtual absl::StatusOr<std::shared_ptr<PartFolder>> NewFolder() = 0;
  // What the scan found; given out once.
  virtual std::vector<FoundPart> TakeFoundParts() = 0;
  // A found part's data, as a file in use that no session has mapped. NOT_FOUND where it has none.
  virtual absl::StatusOr<std::shared_ptr<StagingFile>> AdoptData(
      const std::shared_ptr<PartFolder>& folder) = 0;
  // Lets go of unlinked files that nobody holds any more. False: some are still held, ask again.
  virtual bool Collect() = 0;
  // Wakes everybody who waits for memory, so that they poll `check`.
  virtual void WakeWaiters() = 0;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_STAGING_MEMORY_TIER_H_
