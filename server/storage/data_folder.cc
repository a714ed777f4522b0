#include "server/storage/data_folder.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/manifest.h"
#include "common/status_macros.h"
#include "server/storage/names.h"

namespace ckpt {

DataFolder::FilePin::FilePin(FilePin&& other) noexcept
    : folder_(std::exchange(other.folder_, nullptr)), id_(other.id_) {}

DataFolder::FilePin& DataFolder::FilePin::operator=(FilePin&& other) noexcept {
  if (this != &other) {
    if (folder_ != nullptr) folder_->Unpin(id_);
    folder_ = std::exchange(other.folder_, nullptr);
    id_ = other.id_;
  }
  return *this;
}

DataFolder::FilePin::~FilePin() {
  if (folder_ != nullptr) folder_->Unpin(id_);
}

std::string DataFolder::ObjectsFolder() const { return absl::StrCat(path_, "/", names::kObjects); }
std::string DataFolder::CheckpointsFolder() const {
  return absl::StrCat(path_, "/", names::kCheckpoints);
}
std::string DataFolder::IndexFolder() const { return absl::StrCat(path_, "/", names::kIndex); }

absl::StatusOr<DataFolder::FilePin> DataFolder::Pin(FileId data_file) {
  {
    MutexLock lock(mutex_);
    if (doomed_.contains(data_file)) {
      return absl::NotFoundError(absl::StrCat("the data file was deleted: ", data_file.hex()));
    }
    ++pins_[data_file];
  }
  FilePin pin(this, data_file);  // from here on it cannot be unlinked, if it is still there
  CKPT_RETURN_IF_ERROR(OpenDataFile(data_file).status());
  return pin;
}

void DataFolder::Unpin(FileId id) {
  {
    MutexLock lock(mutex_);
    auto found = pins_.find(id);
    if (--found->second > 0) return;
    pins_.erase(found);
    if (!doomed_.contains(id)) return;
  }
  // Still doomed, so nobody pins it meanwhile. Should the unlink fail, the file is an orphan, which
  // recovery removes.
  UnlinkObject(names::DataFile(id)).IgnoreError();
  MutexLock lock(mutex_);
  doomed_.erase(id);
}

absl::Status DataFolder::UnlinkObject(const std::string& name) {
  absl::Status status = files_->Unlink(absl::StrCat(ObjectsFolder(), "/", name));
  return absl::IsNotFound(status) ? absl::OkStatus() : status;
}

absl::Status DataFolder::DeleteDataFile(FileId id) {
  {
    MutexLock lock(mutex_);
    if (!doomed_.insert(id).second) return absl::OkStatus();
    if (pins_.contains(id)) return absl::OkStatus();  // the last Unpin does the rest
  }
  absl::Status status = UnlinkObject(names::DataFile(id));
  MutexLock lock(mutex_);
  doomed_.erase(id);
  return status;
}

absl::Status DataFolder::DeletePartManifest(FileId id) {
  return UnlinkObject(names::PartManifest(id));
}

absl::StatusOr<std::unique_ptr<ReadableFile>> DataFolder::OpenDataFile(FileId id) {
  return files_->OpenRead(absl::StrCat(ObjectsFolder(), "/", names::DataFile(id)));
}

absl::StatusOr<v1::PartManifest> DataFolder::ReadPartManifest(FileId id) {
  const std::string name = names::PartManifest(id);
  CKPT_ASSIGN_OR_RETURN(const std::string bytes,
                        files_->ReadWhole(absl::StrCat(ObjectsFolder(), "/", name)));
  return OpenPartManifest(bytes, name);
}

absl::StatusOr<v1::PartManifest> DataFolder::ReadPartManifest(const v1::PartReference& reference) {
  CKPT_ASSIGN_OR_RETURN(const FileId id, FileId::FromBytes(reference.manifest_id(), "manifest_id"));
  const std::string name = names::PartManifest(id);
  CKPT_ASSIGN_OR_RETURN(const std::string bytes,
                        files_->ReadWhole(absl::StrCat(ObjectsFolder(), "/", name)));
  if (bytes.size() != reference.manifest_length()) {
    return absl::DataLossError(absl::StrCat(name, " has ", bytes.size(),
                                            " bytes, its checkpoint manifest says ",
                                            reference.manifest_length()));
  }
  if (Xxh3(bytes) != reference.manifest_hash()) {
    return absl::DataLossError(
        absl::StrCat(name, " does not have the hash ", "that its checkpoint manifest names"));
  }
  return OpenPartManifest(bytes, name);
}

absl::StatusOr<v1::CheckpointManifest> DataFolder::ReadCheckpointManifest(CheckpointUid uid) {
  const std::string name = names::CheckpointManifest(uid);
  CKPT_ASSIGN_OR_RETURN(const std::string bytes,
                        files_->ReadWhole(absl::StrCat(CheckpointsFolder(), "/", name)));
  CKPT_ASSIGN_OR_RETURN(v1::CheckpointManifest manifest, OpenCheckpointManifest(bytes, name));
  if (manifest.checkpoint_uid() != uid.bytes()) {
    return absl::DataLossError(absl::StrCat(name, " holds the manifest of another checkpoint"));
  }
  return manifest;
}

absl::StatusOr<v1::Labels> DataFolder::ReadLabels(CheckpointUid uid) {
  const std::string name = names::Labels(uid);
  absl::StatusOr<std::string> bytes =
      files_->ReadWhole(absl::StrCat(CheckpointsFolder(), "/", name));
  if (absl::IsNotFound(bytes.status())) return v1::Labels();
  if (!bytes.ok()) return bytes.status();
  v1::Labels labels;
  CKPT_RETURN_IF_ERROR(OpenEnvelope(EnvelopeKind::kLabels, *bytes, name, &labels));
  return labels;
}

absl::Status DataFolder::WriteLabels(CheckpointUid uid, const v1::Labels& labels) {
  const std::string name = names::Labels(uid);
  MutexLock lock(labels_mutex_);
  return files_->WriteDurably(CheckpointsFolder(), names::Partial(name), name,
                              SealEnvelope(EnvelopeKind::kLabels, labels));
}

absl::StatusOr<std::optional<v1::RetentionPolicies>> DataFolder::ReadRetention() {
  absl::StatusOr<std::string> bytes =
      files_->ReadWhole(absl::StrCat(path_, "/", names::kRetention));
  if (absl::IsNotFound(bytes.status())) return std::nullopt;
  CKPT_RETURN_IF_ERROR(bytes.status());
  v1::RetentionPolicies policies;
  CKPT_RETURN_IF_ERROR(
      OpenEnvelope(EnvelopeKind::kRetention, *bytes, names::kRetention, &policies));
  return policies;
}

absl::Status DataFolder::WriteRetention(const v1::RetentionPolicies& policies) {
  MutexLock lock(labels_mutex_);
  return files_->WriteDurably(path_, names::Partial(names::kRetention), names::kRetention,
                              SealEnvelope(EnvelopeKind::kRetention, policies));
}

absl::Status DataFolder::PrepareCheckpointManifest(const v1::CheckpointManifest& manifest) {
  CKPT_ASSIGN_OR_RETURN(const CheckpointUid uid,
                        CheckpointUid::FromBytes(manifest.checkpoint_uid(), "checkpoint_uid"));
  return files_->WriteTemporary(CheckpointsFolder(), names::Partial(names::CheckpointManifest(uid)),
                                SealEnvelope(EnvelopeKind::kCheckpointManifest, manifest));
}

void DataFolder::DropPreparedManifest(CheckpointUid uid) {
  const std::string name = names::Partial(names::CheckpointManifest(uid));
  files_->Unlink(absl::StrCat(CheckpointsFolder(), "/", name)).IgnoreError();
}

absl::Status DataFolder::CheckUnpublished(CheckpointUid uid) {
  const std::string name = names::CheckpointManifest(uid);
  const auto there = files_->OpenRead(absl::StrCat(CheckpointsFolder(), "/", name));
  if (there.ok()) return absl::AlreadyExistsError(absl::StrCat(name, " is committed already"));
  return absl::IsNotFound(there.status()) ? absl::OkStatus() : there.status();
}

absl::Status DataFolder::PublishPreparedManifest(CheckpointUid uid) {
  CKPT_RETURN_IF_ERROR(CheckUnpublished(uid));
  const std::string name = names::CheckpointManifest(uid);
  return files_->GiveFinalName(CheckpointsFolder(), names::Partial(name), name);
}

absl::Status DataFolder::PublishCheckpointManifest(const v1::CheckpointManifest& manifest) {
  CKPT_ASSIGN_OR_RETURN(const CheckpointUid uid,
                        CheckpointUid::FromBytes(manifest.checkpoint_uid(), "checkpoint_uid"));
  CKPT_RETURN_IF_ERROR(CheckUnpublished(uid));
  CKPT_RETURN_IF_ERROR(PrepareCheckpointManifest(manifest));
  return PublishPreparedManifest(uid);
}

absl::Status DataFolder::RemoveCheckpointManifest(CheckpointUid uid) {
  for (const std::string& name : {names::CheckpointManifest(uid), names::Labels(uid)}) {
    absl::Status status = files_->Unlink(absl::StrCat(CheckpointsFolder(), "/", name));
    if (!status.ok() && !absl::IsNotFound(status)) return status;
  }
  return files_->SyncFolder(CheckpointsFolder());
}

absl::StatusOr<std::vector<CheckpointUid>> DataFolder::ListCheckpointManifests() {
  CKPT_ASSIGN_OR_RETURN(const std::vector<std::string> entries, files_->List(CheckpointsFolder()));
  std::vector<CheckpointUid> uids;
  for (const std::string& name : entries) {
    if (auto uid = names::ParseCheckpointManifest(name)) uids.push_back(*uid);
  }
  return uids;
}

absl::StatusOr<std::vector<CheckpointUid>> DataFolder::ListLabels() {
  CKPT_ASSIGN_OR_RETURN(const std::vector<std::string> entries, files_->List(CheckpointsFolder()));
  std::vector<CheckpointUid> uids;
  for (const std::string& name : entries) {
    if (auto uid = names::ParseLabels(name)) uids.push_back(*uid);
  }
  return uids;
}

absl::StatusOr<DataFolder::Objects> DataFolder::ListObjects() {
  CKPT_ASSIGN_OR_RETURN(const std::vector<std::string> entries, files_->List(ObjectsFolder()));
  Objects objects;
  for (const std::string& name : entries) {
    if (auto id = names::ParseDataFile(name)) objects.data_files.push_back(*id);
    if (auto id = names::ParsePartManifest(name)) objects.part_manifests.push_back(*id);
  }
  return objects;
}

absl::StatusOr<DiskSpace> DataFolder::Space() { return files_->Space(path_); }

}  // namespace ckpt
