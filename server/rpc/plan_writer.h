// The leaves and pieces of a restore plan on their way to the caller: gathered into messages of a
// bounded size, a leaf before its pieces, and what they name referenced and granted before they go.
//
// Data files are referenced when the first piece of theirs is added (deletion then waits for the
// plan), memory copies with them (which then are not recycled), and their descriptors pushed over
// the session at once.
#ifndef CKPT_SERVER_RPC_PLAN_WRITER_H_
#define CKPT_SERVER_RPC_PLAN_WRITER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "ckpt/v1/restore.pb.h"
#include "common/ids.h"
#include "google/protobuf/arena.h"
#include "server/rpc/caller.h"
#include "server/rpc/committed_part.h"
#include "server/rpc/open_plan.h"
#include "server/rpc/piece_range.h"
#include "server/session/session.h"
#include "server/staging/memory_copies.h"

namespace ckpt {

// One call of PlanRestore; one thread.
class PlanWriter {
 public:
  // `plan` null: pieces are counted and not sent, nothing is referenced (a dry run, or leaves
  // only). `session` may be null.
  PlanWriter(CheckpointUid uid, OpenPlan* plan, MemoryCopies* memory, Session* session,
             Cancelled cancelled, SendTo<v1::PlanRestoreResponse> send)
      : uid_(uid),
        plan_(plan),
        memory_(memory),
        session_(session),
        cancelled_(cancelled),
        send_(send) {}

  // The next leaf of the plan, with its number, for the caller to fill in before it adds anything
  // else.
  absl::StatusOr<v1::PlannedLeaf*> AddLeaf();
  // What is needed of the shards that `part` has of the leaf it stands at, which has elements of
  // that many bytes and that many dimensions. NOT_FOUND: the checkpoint was deleted before its
  // files were referenced. DATA_LOSS: a file that is needed is missing, and memory has no copy.
  absl::Status AddPieces(CommittedPart& part, uint32_t leaf_number, uint64_t element_bytes,
                         size_t dimensions, const Need& need);
  // CANCELLED: the caller has gone.
  absl::Status Flush();

  uint64_t bytes_from_memory() const { return bytes_from_memory_; }
  uint64_t bytes_from_disk() const { return bytes_from_disk_; }

 private:
  // Where the bytes of a data file lie, in the plan's terms.
  struct FilePlace {
    bool known = false;
    FileId disk_id;  // none: it cannot be opened, memory alone has the bytes
    uint32_t disk = 0;
    std::string unreadable;  // why nobody can read it
  };
  struct PartPlace {
    bool in_memory = false;
    uint32_t memory = 0;
    const MemoryPin* pin = nullptr;
    std::vector<FilePlace> files;
  };

  absl::StatusOr<PartPlace*> PlaceOf(const CommittedPart& part);
  absl::Status ReferenceFile(const CommittedPart& part, const LeafShard& shard, PartPlace& place);
  absl::Status AddPiece(CommittedPart& part, uint32_t leaf_number, const LeafShard& shard,
                        const BlockRange& blocks);

  const CheckpointUid uid_;
  OpenPlan* const plan_;
  MemoryCopies* const memory_;
  Session* const session_;
  const Cancelled cancelled_;
  const SendTo<v1::PlanRestoreResponse> send_;
  absl::flat_hash_map<uint32_t, PartPlace> places_;  // by rank
  // The two messages under way, in one arena: a million leaves are a dozen million allocations.
  static constexpr size_t kArenaBytes = size_t{4} << 20;
  const std::unique_ptr<char[]> arena_bytes_ = std::make_unique_for_overwrite<char[]>(kArenaBytes);
  google::protobuf::Arena arena_{arena_bytes_.get(), kArenaBytes};
  v1::PlanRestoreResponse* leaves_ = nullptr;
  v1::PlanRestoreResponse* pieces_ = nullptr;
  v1::PlannedLeaf* last_leaf_ = nullptr;  // not counted yet
  size_t leaves_bytes_ = 0;
  size_t pieces_bytes_ = 0;
  uint32_t next_leaf_ = 0;
  uint64_t bytes_from_memory_ = 0;
  uint64_t bytes_from_disk_ = 0;
  std::vector<LeafShard> shards_;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_PLAN_WRITER_H_
