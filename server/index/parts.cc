// Part rows, and which files are referenced by whom.
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "server/index/rocks_index.h"

namespace ckpt {

absl::StatusOr<v1::PartManifest> RocksIndex::GetPartHead(CheckpointUid uid, uint32_t rank) {
  auto row = Get(kParts, index_keys::Part(uid, rank));
  if (absl::IsNotFound(row.status())) {
    return absl::NotFoundError(absl::StrCat("no part of rank ", rank, " in ", uid.hex()));
  }
  if (!row.ok()) return row.status();
  v1::PartManifest part;
  if (!part.ParseFromString(*row)) return index_records::Damaged("a part row");
  return part;
}

absl::StatusOr<v1::PartManifest> RocksIndex::GetPart(CheckpointUid uid, uint32_t rank) {
  CKPT_ASSIGN_OR_RETURN(v1::PartManifest part, GetPartHead(uid, rank));
  const std::shared_ptr<const PartLayout> layout = FindLayout(part.layout_digest());
  if (layout == nullptr) return index_records::Damaged("a part's layout is missing");
  *part.mutable_layout() = layout->proto();
  return part;
}

absl::Status RocksIndex::ForEachFile(absl::FunctionRef<bool(FileId, CheckpointUid)> visit) {
  return ForEachRow(kFiles, "", false,
                    [&](absl::string_view key, absl::string_view) -> absl::StatusOr<bool> {
                      if (key.size() != 32) return index_records::Damaged("a file key");
                      return visit(index_keys::IdOf<FileId>(key.substr(0, 16)),
                                   index_keys::IdOf<CheckpointUid>(key.substr(16)));
                    });
}

absl::StatusOr<bool> RocksIndex::IsShared(FileId file, CheckpointUid uid) {
  bool shared = false;
  CKPT_RETURN_IF_ERROR(
      ForEachRow(kFiles, file.bytes(), false,
                 [&](absl::string_view key, absl::string_view) -> absl::StatusOr<bool> {
                   shared = key.substr(16) != uid.bytes();
                   return !shared;
                 }));
  return shared;
}

}  // namespace ckpt
