// The disk tier: a data folder, locked, with a format version. Knows objects, checkpoint manifests
// and labels; knows nothing of the index, of sessions or of gRPC. Thread-safe.
//
// Files are reference-counted: a plan, a scrub or an export holds a FilePin; DeleteObject hides
// nothing by itself, it unlinks at once when nothing is pinned and otherwise when the last pin
// goes.
#ifndef CKPT_SERVER_STORAGE_DATA_FOLDER_H_
#define CKPT_SERVER_STORAGE_DATA_FOLDER_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "ckpt/v1/checkpoint.pb.h"
#include "ckpt/v1/retention.pb.h"
#include "common/ids.h"
#include "common/mutex.h"
#include "server/storage/file_system.h"

namespace ckpt {

class DataFolder {
 public:
  // Makes the folder if it does not exist, takes its lock. FAILED_PRECONDITION: another process has
  // it (names its pid), or its format is newer than ours; INVALID_ARGUMENT: a folder that is
  // neither empty nor ours. Removes *.partial.
  static absl::StatusOr<std::unique_ptr<DataFolder>> Open(FileSystem* files, std::string path);
  // For offline tools: takes the lock of a folder that is ours already and changes nothing in it.
  // NOT_FOUND: no folder there; otherwise as Open.
  static absl::StatusOr<std::unique_ptr<DataFolder>> OpenExisting(FileSystem* files,
                                                                  std::string path);
  ~DataFolder();

  // Keeps a file from being unlinked while it lives. Movable.
  class FilePin {
   public:
    FilePin() = default;
    FilePin(FilePin&&) noexcept;
    FilePin& operator=(FilePin&&) noexcept;
    ~FilePin();

   private:
    friend class DataFolder;
    FilePin(DataFolder* folder, FileId id) : folder_(folder), id_(id) {}
    DataFolder* folder_ = nullptr;
    FileId id_;
  };
  // NOT_FOUND where the file was deleted already.
  absl::StatusOr<FilePin> Pin(FileId data_file);

  const std::string& path() const { return path_; }
  std::string ObjectsFolder() const;
  std::string CheckpointsFolder() const;
  std::string IndexFolder() const;
  FileSystem* files() const { return files_; }

  absl::StatusOr<std::unique_ptr<ReadableFile>> OpenDataFile(FileId id);  // NOT_FOUND
  absl::StatusOr<v1::PartManifest> ReadPartManifest(FileId id);           // NOT_FOUND, DATA_LOSS
  // Checks length and hash against the reference as well.
  absl::StatusOr<v1::PartManifest> ReadPartManifest(const v1::PartReference& reference);
  absl::StatusOr<v1::CheckpointManifest> ReadCheckpointManifest(CheckpointUid uid);
  absl::StatusOr<v1::Labels> ReadLabels(CheckpointUid uid);  // empty labels where there are none
  absl::Status WriteLabels(CheckpointUid uid, const v1::Labels& labels);

  // What SetRetention has set; nullopt: there is no such file. DATA_LOSS.
  absl::StatusOr<std::optional<v1::RetentionPolicies>> ReadRetention();
  absl::Status WriteRetention(const v1::RetentionPolicies& policies);

  // Writes and syncs a checkpoint manifest as `.partial`, which nobody takes for one.
  absl::Status PrepareCheckpointManifest(const v1::CheckpointManifest& manifest);
  void DropPreparedManifest(CheckpointUid uid);

  // The commit point, and its reverse; both end with a synced folder. Publish never overwrites:
  // ALREADY_EXISTS. Where it fails, the manifest does not stand under its final name.
  absl::Status PublishPreparedManifest(CheckpointUid uid);
  absl::Status PublishCheckpointManifest(const v1::CheckpointManifest& manifest);  // prepares it
  absl::Status RemoveCheckpointManifest(CheckpointUid uid);  // and its labels; OK where it is gone

  // Unlinked now or at the last pin. OK where it is gone.
  absl::Status DeleteDataFile(FileId id);
  absl::Status DeletePartManifest(FileId id);

  absl::StatusOr<std::vector<CheckpointUid>> ListCheckpointManifests();
  absl::StatusOr<std::vector<CheckpointUid>> ListLabels();
  struct Objects {
    std::vector<FileId> data_files;
    std::vector<FileId> part_manifests;
  };
  absl::StatusOr<Objects> ListObjects();
  absl::StatusOr<DiskSpace> Space();

 private:
  DataFolder(FileSystem* files, std::string path, int lock_descriptor);
  void Unpin(FileId id);
  absl::Status UnlinkObject(const std::string& name);
  absl::Status CheckUnpublished(CheckpointUid uid);
  absl::Status RemovePartials(const std::string& folder);

  FileSystem* const files_;
  const std::string path_;
  const int lock_descriptor_;
  Mutex labels_mutex_;  // one writer of label files at a time; taken before nothing else
  Mutex mutex_;
  absl::flat_hash_map<FileId, int> pins_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_set<FileId> doomed_
      ABSL_GUARDED_BY(mutex_);  // deleted while pinned, or being unlinked
};

}  // namespace ckpt

#endif  // CKPT_SERVER_STORAGE_DATA_FOLDER_H_
