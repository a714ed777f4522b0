// Restoring bytes: ask for a plan, look at what is there, read boxes of it into memory.
#ifndef CKPT_CLIENT_RESTORE_RESTORE_H_
#define CKPT_CLIENT_RESTORE_RESTORE_H_

#include <cstdint>
#include <optional>
#include <string>
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
  v1::Selection selection;  // empty: everything
  std::optional<v1::RestoreGroup> group;
  absl::Duration settle_timeout = absl::Minutes(10);
  bool leaves_only = false;
  int threads = 2;
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
};

// Keeps every file it names until it is destroyed. Thread-safe.
class RestorePlan {
 public:
  virtual ~RestorePlan() = default;
  virtual const v1::CheckpointInfo& checkpoint() const = 0;
  // In checkpoint order; leaf_number is the index into this span.
  virtual absl::Span<const v1::PlannedLeaf> leaves() const = 0;
  // NOT_FOUND. PER_RANK leaves: that rank's; others: any.
  virtual absl::StatusOr<uint32_t> Find(const std::string& printed_key, uint32_t rank) const = 0;

  // What Read would refuse before it reads: for a caller that has more to complain of. Reads
  // nothing.
  virtual absl::Status Check(absl::Span<const ReadTarget> targets) const = 0;
  // Checks all targets before it reads one byte: INVALID_ARGUMENT (region outside the leaf),
  // FAILED_PRECONDITION (stored boxes do not cover the region: lists the leaves). Then reads,
  // verifies, places. DATA_LOSS names checkpoint, key and offset; on an error the contents of the
  // targets are unspecified, except that a block that failed its hash is never reported as good.
  virtual absl::Status Read(absl::Span<const ReadTarget> targets,
                            ReadStatistics* statistics = nullptr) = 0;
};

}  // namespace ckpt

#endif  // CKPT_CLIENT_RESTORE_RESTORE_H_
