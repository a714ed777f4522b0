// The checkpoints that are alive in this daemon: WRITING, STAGED, just COMMITTED or ABORTED. Groups
// parts by (run, step, incarnation), holds the rules of who may join, checks that the parts fit
// together, and tells whoever waits. What is older than this process is in the index.
//
// Thread-safe. Callbacks are called without locks held.
#ifndef CKPT_SERVER_STAGING_CHECKPOINT_TABLE_H_
#define CKPT_SERVER_STAGING_CHECKPOINT_TABLE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ckpt/v1/checkpoint.pb.h"
#include "ckpt/v1/save.pb.h"
#include "common/checkpoint_id.h"
#include "common/layout.h"
#include "server/index/index.h"
#include "server/persist/persister.h"
#include "server/persist/reservation.h"
#include "server/quota/quotas.h"
#include "server/session/session.h"
#include "server/staging/clock.h"
#include "server/staging/memory_tier.h"
#include "server/staging/received_bytes.h"
#include "server/storage/data_folder.h"

namespace ckpt {

// NOT_FOUND: nobody here knows that checkpoint, or may be told of it.
absl::Status UnknownCheckpoint(const CheckpointId& id);

// What catalog, wait and restore ask. Save's side of the table (joining, staging, finishing) is
// declared beside it in staging/.
class CheckpointView {
 public:
  virtual ~CheckpointView() = default;
  // Live checkpoints of a run (of all runs: empty), newest step first. Those already COMMITTED,
  // and ABORTED ones once they are recorded, are left to the index.
  virtual std::vector<v1::CheckpointInfo> Live(const std::string& run) = 0;
  // Blocks until the checkpoint has reached `state` or a later one. ABORTED with the reason;
  // NOT_FOUND for an unknown triple; DEADLINE_EXCEEDED; CANCELLED when `cancelled` (polled) turns
  // true. An id without incarnation means the greatest of that step that is being written or is
  // committed; an aborted one only where there is no other.
  virtual absl::StatusOr<v1::CheckpointInfo> Wait(const CheckpointId& id, v1::CheckpointState state,
                                                  absl::Time deadline,
                                                  absl::FunctionRef<bool()> cancelled) = 0;
  // When the last byte of a committed checkpoint was synced; InfinitePast where that is forgotten.
  // From memory alone.
  virtual absl::Time DurableAt(const CheckpointId& id, CheckpointUid uid) = 0;
  // Blocks until no checkpoint of the run is STAGED (adopted ones included) - each has become
  // COMMITTED or ABORTED.
  virtual absl::Status WaitSettled(const std::string& run, absl::Time deadline,
                                   absl::FunctionRef<bool()> cancelled) = 0;
  // Every change of state, in order, until unsubscribed. `changed` is called from the changing
  // thread: copy and return.
  virtual uint64_t Subscribe(
      absl::AnyInvocable<void(const v1::CheckpointInfo&, bool deleted)> changed) = 0;
  virtual void Unsubscribe(uint64_t number) = 0;
  // Tells subscribers of something that happened elsewhere (a deletion, a tag). One that was
  // deleted is unknown here from then on.
  virtual void Announce(const v1::CheckpointInfo& info, bool deleted) = 0;
};

// --- Save's side ---------------------------------------------------------------------------------

// What `Begin` says, checked as far as one message can be.
struct PartClaim {
  CheckpointId id;
  RequestId request_id;
  std::shared_ptr<Session> session;  // null: stream transport without a session
  uint32_t rank = 0;
  uint32_t world_size = 0;
  std::vector<uint32_t> share;  // sorted, never empty
  v1::IfExists if_exists = v1::IF_EXISTS_UNSPECIFIED;
  v1::OnFull on_full = v1::ON_FULL_WAIT;
  std::string layout_digest;
  v1::Transport transport = v1::TRANSPORT_UNSPECIFIED;
  absl::Duration join_deadline;
  absl::Duration memory_wait;
  std::optional<uint64_t> resumed_step;

  // INVALID_ARGUMENT says which field is wrong, and what was expected.
  static absl::StatusOr<PartClaim> FromBegin(const v1::Begin& begin,
                                             std::shared_ptr<Session> session,
                                             absl::Duration join_deadline_default);
};

// One stream's hold on its part; the calls come in the order of save.proto, from one thread. Every
// error is final for the stream; those that the client is to blame for abort the part, and so the
// checkpoint. Destroying it before Finish has returned OK is a broken stream: the part's grace
// begins.
class PartStream {
 public:
  virtual ~PartStream() = default;
  // OK while the part lives and no newer stream has taken it over. ABORTED with the reason.
  virtual absl::Status status() const = 0;
  // The layout's bytes must be sent: nobody here has that digest.
  virtual bool needs_layout() const = 0;
  virtual absl::Status SetLayout(std::string serialized) = 0;
  // Reserves disk space and memory; waits for memory as the claim says. For shared memory the
  // descriptor has been pushed when it returns.
  virtual absl::StatusOr<v1::Accepted> Open(absl::FunctionRef<bool()> cancelled) = 0;
  // A Values message. Returns what they take in memory, in bytes.
  virtual absl::StatusOr<uint64_t> SetValues(absl::string_view serialized) = 0;
  // What the trainer's memory held, one hash for each block: after all bytes, before Finish. A part
  // whose bytes on disk have others is not made durable, and its checkpoint is aborted.
  virtual absl::Status SetSourceHashes(std::vector<uint64_t> hashes) = 0;
  // Shared memory: part offsets below `written` are in the mapping.
  virtual absl::Status Progress(uint64_t written) = 0;
  // Stream transport: the next bytes. They count as received once their CRC was found right.
  virtual absl::Status Write(uint64_t offset, const ReceivedBytes& bytes) = 0;
  // Part offsets below these were received, and may be written.
  virtual uint64_t received() const = 0;
  virtual uint64_t credit() const = 0;
  // The part is staged when it returns OK. Blocks while a ring is being made durable.
  virtual absl::StatusOr<v1::Staged> Finish(uint64_t part_bytes,
                                            absl::FunctionRef<bool()> cancelled) = 0;
  // The client broke the protocol, or gave up: aborts the checkpoint at once.
  virtual void GiveUp(absl::Status why) = 0;
};

struct CheckpointTableOptions {
  MemoryTier* tier = nullptr;
  Persister* persister = nullptr;
  Index* index = nullptr;
  DataFolder* folder = nullptr;
  Clock* clock = RealClock::Get();
  absl::Duration grace = absl::Seconds(30);          // of a broken stream
  absl::Duration join_deadline = absl::Minutes(10);  // where the caller gives none
  absl::Duration save_lifetime = absl::Hours(6);     // from the first Begin until all is staged
  absl::Duration keep_aborted = absl::Hours(24);
  // What retention is told and asked; none where there is none. Called without locks: after a
  // checkpoint of the run was committed (and compared with the one before) or aborted,
  std::function<void(const std::string& run)> settled;
  // and when the disk has no room for a part.
  std::function<DiskRoom()> make_room;
  Quotas quotas;
  // What is known of so many runs is kept without a look at whether it is still wanted.
  size_t runs_kept_min = 1000;
  bool timer = true;  // false: only Tick looks at the clock (tests)
};

// Order at start: MemoryTier::Open, RecoverDataFolder(keep_parts = tier's RecordedPartManifests),
// Create, Adopt, then serve. Order at the end: Drain as far as wished, Shutdown (every call that
// waits here returns UNAVAILABLE), the gRPC server down, then destroy the table, the persister
// (waits for its parts, which end at once), the tier.
class CheckpointTable : public CheckpointView {
 public:
  static absl::StatusOr<std::unique_ptr<CheckpointTable>> Create(CheckpointTableOptions options);

  struct Adopted {
    uint32_t parts = 0;        // staged by an earlier daemon, taken over
    uint32_t checkpoints = 0;  // that they belong to
    uint32_t copies = 0;       // of committed checkpoints, back in the memory tier
    uint32_t damaged = 0;      // records that do not read: left where they are
  };
  // Takes over what an earlier daemon left: parts of complete checkpoints are persisted and
  // committed; incomplete ones have one grace for their missing ranks to begin, then are aborted.
  virtual Adopted Adopt() = 0;

  // Joins a part to its checkpoint. `changed` is called, from any thread, when status() or credit()
  // may have changed: wake up and return. Errors as SaveService.Save.
  virtual absl::StatusOr<std::unique_ptr<PartStream>> Begin(PartClaim claim,
                                                            absl::AnyInvocable<void()> changed) = 0;
  virtual absl::Duration join_deadline_default() const = 0;

  struct RunActivity {
    std::vector<uint64_t> steps_in_flight;  // WRITING or STAGED
    // What the ranks of the run's last launch said they resumed from, the least of it. Unset: they
    // did not, or none of them has saved since this daemon started.
    std::optional<uint64_t> resumed_step;
  };
  virtual RunActivity ActivityOf(const std::string& run) = 0;

  struct QuotaUse {
    QuotaSection section;
    QuotaAmounts used;
  };
  // Of every section, in the file's order. Counts them: time in proportion to runs and live parts.
  virtual std::vector<QuotaUse> QuotasInUse() = 0;

  // --- draining
  // Begins of new checkpoints are UNAVAILABLE; ranks of one that is under way may still join it.
  virtual void StopAdmitting() = 0;
  virtual void Admit() = 0;
  virtual bool draining() const = 0;
  virtual uint32_t open_saves() const = 0;         // streams at work
  virtual uint32_t parts_not_durable() const = 0;  // staged, not yet committed
  // Waits until nothing is staged but not committed, and no save is open. Parts left at the
  // deadline.
  virtual uint32_t WaitDrained(absl::Time deadline, absl::FunctionRef<bool()> cancelled) = 0;
  // Ends all waiting with UNAVAILABLE, for good. What is staged stays in tmpfs for the next daemon.
  virtual void Shutdown() = 0;

  // Looks at the clock: join deadlines, graces, stalled ranks, aborted ones to be forgotten.
  virtual void Tick() = 0;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_STAGING_CHECKPOINT_TABLE_H_
