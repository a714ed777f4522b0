#include "server/rpc/committed_part.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/layout.h"
#include "common/status_macros.h"
#include "server/observe/log.h"
#include "server/storage/names.h"

namespace ckpt {
namespace {

absl::Status CheckTogether(const v1::PartManifest& manifest, const PartLayout& layout) {
  const char* wrong = nullptr;
  if (layout.digest() != manifest.layout_digest()) wrong = "its layout has another digest";
  if (layout.files().size() != static_cast<size_t>(manifest.files_size())) {
    wrong = "its data files are not those of its layout";
  }
  if (layout.block_count() != static_cast<uint64_t>(manifest.block_hashes_size())) {
    wrong = "its block hashes are not those of its layout";
  }
  for (int i = 0; wrong == nullptr && i < manifest.files_size(); ++i) {
    if (manifest.files(i).first_shard() != layout.files()[i].first_shard ||
        manifest.files(i).shard_count() != layout.files()[i].shard_count) {
      wrong = "a data file holds other shards than its layout says";
    }
  }
  if (wrong == nullptr) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("part manifest of rank ", manifest.rank(), " of ",
                                          manifest.id().run(), "@", manifest.id().step(),
                                          " does not hold together: ", wrong));
}

}  // namespace

absl::Status DamageOf(const v1::CheckpointId& checkpoint, uint32_t rank, absl::string_view what) {
  const std::string at = absl::StrCat(checkpoint.run(), "@", checkpoint.step());
  return absl::DataLossError(absl::StrCat(
      "a committed checkpoint is damaged: ", at, ", rank ", rank, ": ", what,
      "; `ckptctl checkpoint verify ", at,
      "` lists all damage; restore another step, or latest-valid"));
}

absl::StatusOr<std::unique_ptr<CommittedPart>> CommittedPart::Open(
    Index* index, DataFolder* folder, CheckpointUid uid, const v1::PartReference& reference) {
  std::unique_ptr<CommittedPart> part(new CommittedPart(index, folder, uid, reference));
  absl::StatusOr<v1::PartManifest> head = index->GetPartHead(uid, reference.rank());
  if (head.ok()) {
    part->head_ = *std::move(head);
  } else {
    CKPT_RETURN_IF_ERROR(part->ReadFile());
  }
  return part;
}

absl::Status CommittedPart::ReadFile() {
  absl::StatusOr<v1::PartManifest> read = folder_->ReadPartManifest(reference_);
  if (absl::IsNotFound(read.status())) {
    CKPT_ASSIGN_OR_RETURN(const FileId id,
                          FileId::FromBytes(reference_.manifest_id(), "manifest_id"));
    return Damage(absl::StrCat(names::PartManifest(id), " is missing on disk"));
  }
  if (absl::IsDataLoss(read.status())) return Damage(read.status().message());
  CKPT_RETURN_IF_ERROR(read.status());
  v1::PartManifest manifest = *std::move(read);
  observe::Warning("the index cannot give a part: its manifest's file is read",
                   {{"run", manifest.id().run()},
                    {"step", manifest.id().step()},
                    {"rank", manifest.rank()}});
  auto layout = PartLayout::FromProto(std::move(*manifest.mutable_layout()));
  if (!layout.ok()) {
    return absl::DataLossError(absl::StrCat("part manifest of rank ", reference_.rank(),
                                            " has no valid layout: ", layout.status().message()));
  }
  manifest.clear_layout();
  CKPT_RETURN_IF_ERROR(CheckTogether(manifest, **layout));
  cursor_ = CursorOverLayout(**layout);
  head_ = manifest;
  head_.clear_values();
  head_.clear_block_hashes();
  value_row_ = ValueRow{.values = manifest.values()};
  file_ = std::move(manifest);
  return absl::OkStatus();
}

absl::Status CommittedPart::OpenCursor() {
  CKPT_ASSIGN_OR_RETURN(cursor_, index_->OpenLeaves(head_.layout_digest()));
  return absl::OkStatus();
}

absl::Status CommittedPart::Seek(absl::string_view key) {
  absl::Status status = cursor_ == nullptr ? OpenCursor() : absl::OkStatus();
  if (status.ok()) status = cursor_->Seek(key);
  if (status.ok() || file_.has_value()) return status;
  const std::string to(key);
  CKPT_RETURN_IF_ERROR(ReadFile());
  return cursor_->Seek(to);
}

absl::Status CommittedPart::Next() {
  last_.assign(cursor_->printed_key().data(), cursor_->printed_key().size());
  const absl::Status status = cursor_->Next();
  if (status.ok() || file_.has_value()) return status;
  CKPT_RETURN_IF_ERROR(ReadFile());
  return cursor_->Seek(last_ + '\0');
}

const CommittedPart::HashRow* CommittedPart::FindHashRow(uint64_t number) {
  const auto kept = std::find_if(hash_rows_.begin(), hash_rows_.end(),
                                 [&](const HashRow& row) { return row.number == number; });
  if (kept != hash_rows_.end()) {
    std::rotate(hash_rows_.begin(), kept, kept + 1);
    return &hash_rows_.front();
  }
  auto hashes = index_->ReadBlockHashes(uid_, reference_.rank(), number);
  if (!hashes.ok()) return nullptr;
  std::rotate(hash_rows_.begin(), hash_rows_.end() - 1, hash_rows_.end());
  hash_rows_.front() = {number, *std::move(hashes)};
  return &hash_rows_.front();
}

absl::Status CommittedPart::ReadHashes(uint64_t first, uint64_t count,
                                       google::protobuf::RepeatedField<uint64_t>* hashes) {
  const uint64_t end = first + count;
  while (first < end && !file_.has_value()) {
    const HashRow* row = FindHashRow(first / Index::kHashesPerRow);
    const uint64_t skip = first % Index::kHashesPerRow;
    if (row == nullptr || row->hashes.size() <= skip) {
      const std::string at = valid() ? std::string(leaf().printed_key()) : std::string();
      CKPT_RETURN_IF_ERROR(ReadFile());
      if (!at.empty()) CKPT_RETURN_IF_ERROR(cursor_->Seek(at));
      break;
    }
    const uint64_t take = std::min<uint64_t>(end - first, row->hashes.size() - skip);
    const auto begin = row->hashes.begin() + static_cast<ptrdiff_t>(skip);
    hashes->Add(begin, begin + static_cast<ptrdiff_t>(take));
    first += take;
  }
  if (first == end) return absl::OkStatus();
  if (end > static_cast<uint64_t>(file_->block_hashes_size())) {
    return absl::DataLossError(absl::StrCat("part manifest of rank ", head_.rank(), " has ",
                                            file_->block_hashes_size(), " block hashes, not ",
                                            end));
  }
  hashes->Add(file_->block_hashes().begin() + static_cast<ptrdiff_t>(first),
              file_->block_hashes().begin() + static_cast<ptrdiff_t>(end));
  return absl::OkStatus();
}

absl::StatusOr<const v1::Value*> CommittedPart::FindValue() {
  const absl::string_view key = leaf().printed_key();
  if (!value_row_.has_value() || key < value_row_->from ||
      (!value_row_->until.empty() && key >= value_row_->until)) {
    absl::StatusOr<ValueRow> row = index_->ReadValues(uid_, reference_.rank(), key);
    if (row.ok()) {
      value_row_ = *std::move(row);
    } else {
      const std::string at(key);
      CKPT_RETURN_IF_ERROR(ReadFile());
      CKPT_RETURN_IF_ERROR(cursor_->Seek(at));
    }
  }
  for (const v1::Values::Entry& entry : value_row_->values.entries()) {
    if (entry.leaf() == leaf().position()) return &entry.value();
  }
  return nullptr;
}

absl::StatusOr<const v1::DataFile*> CommittedPart::file(uint32_t number) const {
  if (number < static_cast<uint32_t>(head_.files_size())) {
    return &head_.files(static_cast<int>(number));
  }
  return absl::DataLossError(absl::StrCat("part manifest of rank ", head_.rank(), " has ",
                                          head_.files_size(), " data files, and shards in number ",
                                          number));
}

absl::Status CommittedPart::Damage(absl::string_view what) const {
  // A deletion hides the checkpoint, then removes its manifest, and only then its other files.
  const absl::StatusOr<CheckpointRecord> record = index_->GetCheckpoint(uid_);
  if (absl::IsNotFound(record.status()) ||
      absl::IsNotFound(folder_->ReadCheckpointManifest(uid_).status())) {
    return absl::NotFoundError("the checkpoint was deleted meanwhile");
  }
  CKPT_RETURN_IF_ERROR(record.status());
  return DamageOf(record->manifest.id(), reference_.rank(), what);
}

}  // namespace ckpt
