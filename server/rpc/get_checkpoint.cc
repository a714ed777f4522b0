// GetCheckpoint: one committed checkpoint with its parts and files; or, asked for by step, one that
// is still alive here or was aborted.
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/checkpoint_id.h"
#include "common/status_macros.h"
#include "server/rpc/catalog.h"
#include "server/rpc/checkpoint_info.h"
#include "server/rpc/committed_part.h"
#include "server/storage/names.h"

namespace ckpt {
namespace {

// Of the parts in one answer.
constexpr size_t kPartInfoBytesMax = 2 << 20;

bool Names(const v1::Selector& selector, const v1::CheckpointInfo& info) {
  return info.id().step() == selector.step() &&
         (selector.incarnation().empty() || info.id().incarnation() == selector.incarnation());
}

// The newest of those that are not committed.
std::optional<v1::CheckpointInfo> FindUncommitted(Catalog& catalog, const v1::Selector& selector) {
  std::optional<v1::CheckpointInfo> found;
  const auto consider = [&](const v1::CheckpointInfo& info) {
    if (!Names(selector, info)) return;
    const bool alive = info.state() != v1::CHECKPOINT_STATE_ABORTED;
    const bool found_alive = found && found->state() != v1::CHECKPOINT_STATE_ABORTED;
    if (!found || (alive && !found_alive) ||
        (alive == found_alive && info.checkpoint_uid() > found->checkpoint_uid())) {
      found = info;
    }
  };
  for (const v1::CheckpointInfo& info : catalog.live->Live(selector.run())) consider(info);
  catalog.index
      ->ForEachAborted(selector.run(),
                       [&](const v1::CheckpointInfo& info) {
                         consider(info);
                         return true;
                       })
      .IgnoreError();
  return found;
}

absl::Status AddPart(Catalog& catalog, CheckpointUid uid, const v1::PartReference& reference,
                     v1::GetCheckpointResponse& response) {
  CKPT_ASSIGN_OR_RETURN(const auto committed,
                        CommittedPart::Open(catalog.index, catalog.folder, uid, reference));
  v1::PartInfo* part = response.add_parts();
  part->set_rank(reference.rank());
  part->set_data_bytes(reference.data_bytes());
  part->set_in_memory(catalog.memory->Has(uid, reference.rank()));
  for (const v1::DataFile& file : committed->head().files()) {
    part->set_shard_count(part->shard_count() + file.shard_count());
    CKPT_ASSIGN_OR_RETURN(const FileId id, FileId::FromBytes(file.file_id(), "file_id"));
    part->add_disk_files(names::DataFile(id));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status GetCheckpoint(Catalog& catalog, const v1::GetCheckpointRequest& request,
                           Cancelled cancelled, v1::GetCheckpointResponse& response) {
  CKPT_RETURN_IF_ERROR(ValidateSelector(request.selector()));
  // Before the index is asked: one that commits in between is found there, not lost.
  std::optional<v1::CheckpointInfo> uncommitted;
  if (request.selector().has_step()) uncommitted = FindUncommitted(catalog, request.selector());
  absl::StatusOr<CheckpointRecord> record = catalog.finder->Find(request.selector(), *catalog.rights, cancelled);
  if (!record.ok()) {
    if (absl::IsNotFound(record.status()) && uncommitted) {
      *response.mutable_checkpoint() = *std::move(uncommitted);
      return absl::OkStatus();
    }
    return record.status();
  }
  *response.mutable_checkpoint() = InfoOf(*record, *catalog.memory, *catalog.live, catalog.finder->damage());
  *response.mutable_labels() = record->labels;
  CKPT_ASSIGN_OR_RETURN(const CheckpointUid uid, UidOf(*record));
  size_t bytes = 0;
  for (const v1::PartReference& reference : record->manifest.parts()) {
    // A world of thousands of ranks does not fit in one answer: its first parts do.
    if (bytes > kPartInfoBytesMax) break;
    CKPT_RETURN_IF_ERROR(AddPart(catalog, uid, reference, response));
    bytes += response.parts(response.parts_size() - 1).ByteSizeLong();
  }
  return absl::OkStatus();
}

}  // namespace ckpt
