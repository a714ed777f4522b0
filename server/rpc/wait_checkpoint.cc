// WaitCheckpoint: blocks until a checkpoint has reached a state or a later one.
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/checkpoint_id.h"
#include "common/status_macros.h"
#include "server/rpc/catalog.h"
#include "server/rpc/checkpoint_info.h"

namespace ckpt {
namespace {

absl::Status ValidateState(v1::CheckpointState state) {
  switch (state) {
    case v1::CHECKPOINT_STATE_WRITING:
    case v1::CHECKPOINT_STATE_STAGED:
    case v1::CHECKPOINT_STATE_COMMITTED:
      return absl::OkStatus();
    case v1::CHECKPOINT_STATE_REPLICATED:
      return absl::InvalidArgumentError("state REPLICATED: this daemon has no remote tier");
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("state must be WRITING, STAGED or COMMITTED, got ", state));
  }
}

// The triple, without an incarnation where none was named.
absl::StatusOr<CheckpointId> ReadId(const v1::CheckpointId& proto) {
  if (!proto.incarnation().empty()) return CheckpointId::FromProto(proto);
  CKPT_RETURN_IF_ERROR(ValidateRun(proto.run()));
  CKPT_RETURN_IF_ERROR(ValidateStep(proto.step()));
  CheckpointId id;
  id.run = proto.run();
  id.step = proto.step();
  return id;
}

// What the table of live checkpoints does not know of a committed one.
void AddLabelsAndMemory(Catalog& catalog, v1::CheckpointInfo& info) {
  const auto uid = CheckpointUid::FromBytes(info.checkpoint_uid(), "checkpoint_uid");
  if (!uid.ok()) return;
  const absl::StatusOr<CheckpointRecord> record = catalog.index->GetCheckpoint(*uid);
  if (!record.ok()) return;
  const v1::CheckpointInfo known =
      InfoOf(*record, *catalog.memory, *catalog.live, catalog.finder->damage());
  *info.mutable_tags() = known.tags();
  info.set_in_memory(known.in_memory());
}

}  // namespace

absl::Status WaitCheckpoint(Catalog& catalog, const v1::WaitCheckpointRequest& request,
                            absl::Time deadline, Cancelled cancelled,
                            v1::WaitCheckpointResponse& response) {
  CKPT_RETURN_IF_ERROR(ValidateState(request.state()));
  CKPT_ASSIGN_OR_RETURN(const CheckpointId id, ReadId(request.id()));
  if (!catalog.rights->May(Verb::kRead, id.run)) return UnknownCheckpoint(id);
  absl::StatusOr<v1::CheckpointInfo> info =
      catalog.live->Wait(id, request.state(), deadline, cancelled);
  if (absl::IsNotFound(info.status())) {
    // Older than this process: what is committed has reached every state that can be waited for.
    std::optional<Incarnation> incarnation;
    if (!id.incarnation.none()) incarnation = id.incarnation;
    const auto record = catalog.index->FindStep(id.run, id.step, incarnation);
    if (record.ok()) {
      info = InfoOf(*record, *catalog.memory, *catalog.live, catalog.finder->damage());
    }
  }
  CKPT_RETURN_IF_ERROR(info.status());
  if (info->state() == v1::CHECKPOINT_STATE_COMMITTED) AddLabelsAndMemory(catalog, *info);
  *response.mutable_checkpoint() = *std::move(info);
  return absl::OkStatus();
}

}  // namespace ckpt
