// One checkpoint that is alive, and its parts: plain records, guarded by the table's lock. Only
// `buffer` is used without it.
//
//   part:        joined -> laid out (layout known) -> open (memory granted) -> finished (Finish
//                accepted) -> staged (the promise is given) -> durable
//   checkpoint:  WRITING -> STAGED (every part staged, and they fit together) -> COMMITTED; ABORTED
#ifndef CKPT_SERVER_STAGING_LIVE_CHECKPOINT_H_
#define CKPT_SERVER_STAGING_LIVE_CHECKPOINT_H_

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/staging/checkpoint_table.h"
#include "server/staging/part_buffer.h"
#include "server/staging/part_folder.h"

namespace ckpt {

struct LivePart {
  PartClaim claim;  // without the share; of an adopted part: what its plan says
  std::shared_ptr<const PartLayout> layout;
  v1::Values values;
  bool values_given = false;
  std::vector<uint64_t> source_hashes;  // empty: the client has taken none

  // Memory. `file` is held here while the part is not durable; afterwards the tier may give it up.
  std::shared_ptr<PartFolder> folder;
  std::shared_ptr<StagingFile> file;
  FileId file_id;  // none: no bytes, or a ring
  std::shared_ptr<PartBuffer> buffer;
  bool ring = false;
  bool opening = false;   // some stream is acquiring memory for it
  bool reserved = false;  // disk space, and nobody has taken the reservation over
  bool admitted = false;  // its bytes count against its run's quota
  uint64_t memory_promised = 0;  // by the quota, while `file` is being found
  std::string refused;           // why it was last not let in; empty once it was

  bool finished = false;
  bool staged = false;
  bool persisting = false;
  std::optional<DurablePart> durable;

  std::string adoption_failed;  // why its bytes could not be taken over

  // The stream that holds it: 0 none. A newer one takes it over.
  uint64_t stream = 0;
  std::shared_ptr<absl::AnyInvocable<void()>> stream_changed;
  absl::Time broken_since = absl::InfiniteFuture();  // no stream since then
  absl::Time heard_at;
  uint64_t on_close = 0;  // the session's number for our callback
};

struct LiveCheckpoint {
  CheckpointId id;
  CheckpointUid uid;
  uint32_t world_size = 0;
  std::vector<uint32_t> share;          // never changes
  std::optional<size_t> quota_section;  // of its run; never changes
  v1::CheckpointState state = v1::CHECKPOINT_STATE_WRITING;
  absl::Time begun_at;
  absl::Time join_deadline;
  absl::Duration join_patience;  // what the deadline was made from, for the text of the error
  bool adopted = false;
  bool committing = false;
  bool agreeing = false;                                // their agreement is being looked at
  bool agreed = false;                                  // all layouts are known and fit together
  std::map<uint32_t, std::shared_ptr<LivePart>> parts;  // by rank
  uint64_t parts_version = 0;                           // counts the parts that were begun anew
  absl::Time ended_at;                                  // COMMITTED or ABORTED
  absl::Time committed_at;                              // what the manifest says

  // ABORTED: each rank is told once; what it begins after that is a new attempt.
  absl::Status aborted;
  bool recording = false;       // the index is about to be told
  bool abort_recorded = false;  // the index has it
  std::set<uint32_t> told;

  bool AllJoined() const { return parts.size() == share.size(); }
  uint32_t CountStaged() const {
    uint32_t count = 0;
    for (const auto& [rank, part] : parts) count += part->staged ? 1 : 0;
    return count;
  }
  uint32_t CountDurable() const {
    uint32_t count = 0;
    for (const auto& [rank, part] : parts) count += part->durable.has_value() ? 1 : 0;
    return count;
  }
  // When the last byte of the last part was synced; InfinitePast: not all parts are durable, or an
  // earlier daemon made them so.
  absl::Time DurableAt() const {
    absl::Time last = absl::InfinitePast();
    if (CountDurable() != share.size()) return last;
    for (const auto& [rank, part] : parts) last = std::max(last, part->durable->durable_at);
    return last;
  }
  bool live() const {
    return state == v1::CHECKPOINT_STATE_WRITING || state == v1::CHECKPOINT_STATE_STAGED;
  }
};

// "ranks 1, 2 and 7": at most ten are named.
std::string PrintRanks(const std::vector<uint32_t>& ranks);

v1::CheckpointInfo MakeInfo(const LiveCheckpoint& checkpoint);

}  // namespace ckpt

#endif  // CKPT_SERVER_STAGING_LIVE_CHECKPOINT_H_
