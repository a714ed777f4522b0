// GetCheckpoint: one committed checkpoint with its parts and files, page by page; or, asked for by
// step, one that is still alive here or was aborted.
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/checkpoint_id.h"
#include "common/status_macros.h"
#include "server/rpc/catalog.h"
#include "server/rpc/checkpoint_info.h"
#include "server/rpc/committed_part.h"
#include "server/rpc/page_token.h"
#include "server/storage/names.h"

namespace ckpt {
namespace {

// Of the parts in one answer.
constexpr size_t kPartInfoBytesMax = 2 << 20;

// Where a page of parts starts.
struct PartPosition {
  std::string uid;
  uint32_t part = 0;  // its number in the manifest

  std::string Encode() const {
    std::string bytes = uid;
    for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(part >> shift);
    return bytes;
  }
  static std::optional<PartPosition> Decode(const std::string& bytes) {
    if (bytes.size() != 20) return std::nullopt;
    PartPosition position{.uid = bytes.substr(0, 16)};
    for (size_t i = 16; i < 20; ++i) {
      position.part = position.part << 8 | static_cast<uint8_t>(bytes[i]);
    }
    return position;
  }
};

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

std::string QuestionOf(const v1::GetCheckpointRequest& request) {
  return absl::StrCat("GetCheckpoint ", request.selector().SerializeAsString());
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

// The parts from `first` on, as many as the page holds, and the token of the next page.
absl::Status AddParts(Catalog& catalog, const v1::GetCheckpointRequest& request,
                      const CheckpointRecord& record, uint32_t first,
                      v1::GetCheckpointResponse& response) {
  CKPT_ASSIGN_OR_RETURN(const CheckpointUid uid, UidOf(record));
  const auto count = static_cast<uint32_t>(record.manifest.parts_size());
  size_t bytes = 0;
  for (uint32_t number = first; number < count; ++number) {
    // A world of tens of thousands of ranks does not fit in one answer.
    const bool page_full = request.page_size() > 0 && number - first == request.page_size();
    if (page_full || bytes > kPartInfoBytesMax) {
      response.set_next_page_token(
          MakePageToken(QuestionOf(request), PartPosition{uid.bytes(), number}.Encode()));
      break;
    }
    CKPT_RETURN_IF_ERROR(
        AddPart(catalog, uid, record.manifest.parts(static_cast<int>(number)), response));
    bytes += response.parts(response.parts_size() - 1).ByteSizeLong();
  }
  return absl::OkStatus();
}

// The answer but for its parts.
void AddCheckpoint(Catalog& catalog, const CheckpointRecord& record,
                   v1::GetCheckpointResponse& response) {
  *response.mutable_checkpoint() =
      InfoOf(record, *catalog.memory, *catalog.live, catalog.finder->damage());
  *response.mutable_labels() = record.labels;
}

absl::Status AddNextPage(Catalog& catalog, const v1::GetCheckpointRequest& request,
                         v1::GetCheckpointResponse& response) {
  CKPT_ASSIGN_OR_RETURN(const std::string bytes,
                        OpenPageToken(QuestionOf(request), request.page_token()));
  const std::optional<PartPosition> from = PartPosition::Decode(bytes);
  if (!from) return absl::InvalidArgumentError("page_token is damaged");
  CKPT_ASSIGN_OR_RETURN(const CheckpointUid uid, CheckpointUid::FromBytes(from->uid, "page_token"));
  CKPT_ASSIGN_OR_RETURN(const CheckpointRecord record,
                        catalog.finder->FindForNextPage(request.selector().run(), uid));
  AddCheckpoint(catalog, record, response);
  return AddParts(catalog, request, record, from->part, response);
}

}  // namespace

absl::Status GetCheckpoint(Catalog& catalog, const v1::GetCheckpointRequest& request,
                           Cancelled cancelled, v1::GetCheckpointResponse& response) {
  CKPT_RETURN_IF_ERROR(ValidateSelector(request.selector()));
  CKPT_RETURN_IF_ERROR(PageItems(request.page_size()).status());
  if (!request.page_token().empty()) return AddNextPage(catalog, request, response);
  // Before the index is asked: one that commits in between is found there, not lost.
  std::optional<v1::CheckpointInfo> uncommitted;
  if (request.selector().has_step()) uncommitted = FindUncommitted(catalog, request.selector());
  const absl::StatusOr<CheckpointRecord> record =
      catalog.finder->Find(request.selector(), *catalog.rights, cancelled);
  if (!record.ok()) {
    if (absl::IsNotFound(record.status()) && uncommitted) {
      *response.mutable_checkpoint() = *std::move(uncommitted);
      return absl::OkStatus();
    }
    return record.status();
  }
  AddCheckpoint(catalog, *record, response);
  return AddParts(catalog, request, *record, 0, response);
}

}  // namespace ckpt
