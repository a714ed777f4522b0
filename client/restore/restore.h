// Restoring bytes: ask for a plan, look at what is there, read boxes of it into memory.
#ifndef CKPT_CLIENT_RESTORE_RESTORE_H_
#define CKPT_CLIENT_RESTORE_RESTORE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "ckpt/v1/restore.pb.h"
#include "common/box.h"
#include "common/ids.h"

namespace ckpt {

struct RestoreOptions {
  // Empty: everything. A key that it names exactly must be there, or planning is NOT_FOUND with the
  // first ten that are not, each with the nearest that are, and how many more; a caller who takes
  // what there is uses a pattern. So must a rank of include_matching. A slice selects nothing: it
  // bounds what of its key is planned, to the stored boxes that meet it, so more than the slice can
  // be read where those are larger.
  v1::Selection selection;
  std::optional<v1::RestoreGroup> group;
  // Ranks that restore from this checkpoint at the same time, this one included. What by counting
  // alone others must want as well is read through the page cache, so that the node reads it once;
  // everything else is read past it, which is faster. 0: as many as `group` says, or just this one.
  uint32_t ranks_together = 0;
  // Those ranks read each other's PER_RANK leaves, all of them rank 0's perhaps: these count as
  // what others want as well. False: each reads one rank's, and no two the same, as far as there
  // are that many.
  bool per_rank_shared = false;
  // How long `latest` and `latest-valid` wait for what is STAGED in the run, then
  // DEADLINE_EXCEEDED. More than 24 h is INVALID_ARGUMENT; less than 0 is 0.
  absl::Duration settle_timeout = absl::Minutes(10);
  // What is there, not where: leaves and values, no pieces. Nothing of such a plan can be read, and
  // the daemon keeps nothing for it.
  bool leaves_only = false;
  int threads = 2;  // of a Read, 1 to 64; the disk is read by at least 6. INVALID_ARGUMENT
  bool verify = true;   // check the hash of every block that is read
  bool stream = false;  // read over gRPC even where memory could be shared
};

// A dense row-major buffer that receives `region` of a leaf.
struct ReadTarget {
  uint32_t leaf_number = 0;  // PlannedLeaf.leaf_number (aliases are followed)
  Box region;                // in the leaf's coordinates
  std::byte* out =
      nullptr;  // region.volume() * element size bytes; must not overlap another target's
};

struct ReadStatistics {
  uint64_t bytes_asked = 0;
  uint64_t bytes_read = 0;
  uint64_t bytes_from_memory = 0;
  uint64_t bytes_from_disk = 0;
  uint64_t bytes_hashed = 0;  // each block that is read, once; twice where its memory copy was bad
  uint64_t reads = 0;         // calls of the kernel, or of a remote daemon; none for mapped memory
};

// The bytes of a region where they lie on disk, mapped read-only: nothing is copied, and nothing is
// read until it is looked at. Copies speak of the same mapping; the last one unmaps. Thread-safe.
//
// The mapping is all that a view needs: it stays good when its plan is released, the checkpoint
// deleted, or the daemon gone, and in a forked child. The disk space of a deleted checkpoint is
// free once its last view is gone. The daemon never changes or truncates a data file; a device that
// cannot read a page is a SIGBUS for whoever touches it, as with any mapped file, and DATA_LOSS for
// Verify.
class TensorView {
 public:
  class Impl;
  explicit TensorView(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

  // Dense and row-major, little-endian, begins at a multiple of the element size, no more. Nothing
  // has been verified.
  absl::Span<const std::byte> bytes() const;
  // Reads every block that holds a byte of the region and compares its hash. DATA_LOSS names
  // checkpoint, key and offset.
  absl::Status Verify() const;

 private:
  std::shared_ptr<const Impl> impl_;
};

// Keeps every file it names until it is destroyed. Thread-safe.
class RestorePlan {
 public:
  virtual ~RestorePlan() = default;
  virtual const v1::CheckpointInfo& checkpoint() const = 0;
  // What reading all of it takes, as the daemon counts: all zero where it is too old to say.
  virtual const v1::PlanSummary& summary() const = 0;
  // In checkpoint order; leaf_number is the index into this span.
  virtual absl::Span<const v1::PlannedLeaf> leaves() const = 0;
  // NOT_FOUND with the nearest key. PER_RANK leaves: that rank's; others: any. Cost: a look-up, in
  // proportion to the ranks that have the key; where it is not there, to all keys.
  virtual absl::StatusOr<uint32_t> Find(const std::string& printed_key, uint32_t rank) const = 0;

  // Some data file is missing: Check and Read say DATA_LOSS of what lay in it, before anything is
  // read; the rest can be had.
  virtual bool has_unreadable() const = 0;
  // What Read would refuse before it reads: for a caller that has more to complain of. Reads
  // nothing. Cost: that of making Read's schedule, so in proportion to targets, and to pieces and
  // blocks that they touch.
  virtual absl::Status Check(absl::Span<const ReadTarget> targets) const = 0;
  // Checks all targets before it reads one byte: INVALID_ARGUMENT (region outside the leaf),
  // FAILED_PRECONDITION (stored boxes do not cover the region, or in a forked child), DATA_LOSS
  // (their data file is missing); the text lists the first 20 leaves, and how many more. Then
  // reads, verifies, places. DATA_LOSS names checkpoint, key and offset. Where the bytes come over
  // the wire, from a remote daemon or with `stream`, also UNAVAILABLE (no daemon answers any more),
  // NOT_FOUND (it has released the plan: its lease ran out, or the daemon was restarted; a new plan
  // first), CANCELLED (the client was destroyed) and INTERNAL (it answers what makes no sense). On
  // an error the contents of the targets are unspecified, except that a block that failed its hash
  // is never reported as good. Each block that a target touches is read and hashed once, however
  // many targets touch it, in the order of the files, neighbours in one go, several reads in
  // flight. Cost beside the bytes: in proportion to targets, and to pieces and blocks that they
  // touch.
  virtual absl::Status Read(absl::Span<const ReadTarget> targets,
                            ReadStatistics* statistics = nullptr) = 0;

  // The disk tier's file, never memory, also where the plan names memory. Of any size in well under
  // a millisecond: no byte is read. INVALID_ARGUMENT as Read. FAILED_PRECONDITION: the region is
  // not one contiguous run of one stored shard (the text names the largest part that is; Read
  // copies the whole), the plan did not select the leaf, or there is no file on this node to map: a
  // remote daemon, `stream`, or a disk copy that cannot be opened. DATA_LOSS: the file is shorter
  // than its manifest says. RESOURCE_EXHAUSTED: no more mappings.
  virtual absl::StatusOr<TensorView> View(uint32_t leaf_number, const Box& region) const = 0;
};

}  // namespace ckpt

#endif  // CKPT_CLIENT_RESTORE_RESTORE_H_
