#include "server/storage/file_system.h"

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

absl::Status WriteNew(FileSystem& files, const std::string& path, absl::string_view bytes) {
  CKPT_ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file, files.Create(path, {}));
  if (!bytes.empty()) CKPT_RETURN_IF_ERROR(file->WriteAt(0, bytes.data(), bytes.size()));
  CKPT_RETURN_IF_ERROR(SyncFailed(file->Sync()));
  return file->Close();
}

constexpr char kSyncFailed[] = "ckpt/sync-failed";

}  // namespace

absl::StatusOr<std::string> FileSystem::ReadWhole(const std::string& path) {
  CKPT_ASSIGN_OR_RETURN(std::unique_ptr<ReadableFile> file, OpenRead(path));
  std::string bytes(file->size(), '\0');
  if (!bytes.empty()) CKPT_RETURN_IF_ERROR(file->ReadAt(0, bytes.data(), bytes.size()));
  return bytes;
}

absl::Status FileSystem::WriteTemporary(const std::string& folder,
                                        const std::string& temporary_name,
                                        absl::string_view bytes) {
  const std::string temporary = absl::StrCat(folder, "/", temporary_name);
  absl::Status written = WriteNew(*this, temporary, bytes);
  if (absl::IsAlreadyExists(written)) {  // left by an attempt that failed and could not clean up
    CKPT_RETURN_IF_ERROR(Unlink(temporary));
    written = WriteNew(*this, temporary, bytes);
  }
  if (!written.ok()) Unlink(temporary).IgnoreError();
  return written;
}

absl::Status FileSystem::GiveFinalName(const std::string& folder,
                                       const std::string& temporary_name,
                                       const std::string& final_name) {
  const std::string temporary = absl::StrCat(folder, "/", temporary_name);
  const std::string path = absl::StrCat(folder, "/", final_name);
  const absl::StatusOr<std::string> before = ReadWhole(path);
  if (absl::Status renamed = Rename(temporary, path); !renamed.ok()) {
    Unlink(temporary).IgnoreError();
    return renamed;
  }
  const absl::Status synced = SyncFolder(folder);
  if (synced.ok()) return synced;
  // Perhaps it is durable, perhaps not: what is told to have failed must not come to light later.
  if (before.ok() && WriteNew(*this, temporary, *before).ok()) {
    Rename(temporary, path).IgnoreError();
  } else {
    Unlink(path).IgnoreError();
  }
  SyncFolder(folder).IgnoreError();
  return SyncFailed(synced);
}

absl::Status FileSystem::WriteDurably(const std::string& folder, const std::string& temporary_name,
                                      const std::string& final_name, absl::string_view bytes) {
  CKPT_RETURN_IF_ERROR(WriteTemporary(folder, temporary_name, bytes));
  return GiveFinalName(folder, temporary_name, final_name);
}

bool SaysDamaged(const absl::Status& error) {
  return absl::IsDataLoss(error) || absl::IsNotFound(error);
}

absl::Status SyncFailed(absl::Status status) {
  if (!status.ok()) status.SetPayload(kSyncFailed, absl::Cord());
  return status;
}

bool IsSyncFailed(const absl::Status& status) {
  return status.GetPayload(kSyncFailed).has_value();
}

absl::Status FileSystem::RemoveFlatFolder(const std::string& path) {
  absl::StatusOr<std::vector<std::string>> entries = List(path);
  if (absl::IsNotFound(entries.status())) return absl::OkStatus();
  if (!entries.ok()) return entries.status();
  for (const std::string& name : *entries) {
    CKPT_RETURN_IF_ERROR(Unlink(absl::StrCat(path, "/", name)));
  }
  return RemoveFolder(path);
}

}  // namespace ckpt
