// The files that the daemon has granted to this session, by file id: staging files, mapped and kept
// for the next save until they are revoked, and files of restore plans, read-only. Filled by the
// session's thread; used by saves and restores from any thread. Thread-safe.
//
// A revoked staging file is unmapped, and the daemon told, as soon as no save or restore uses it.
// Read-only mappings of the memory tier stay for a while after their plan, since populating them
// costs as much as reading them; they go at once when the daemon has unlinked the file.
#ifndef CKPT_CLIENT_TRANSPORT_GRANTED_FILES_H_
#define CKPT_CLIENT_TRANSPORT_GRANTED_FILES_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ckpt/v1/session.pb.h"
#include "client/memory/mapping.h"
#include "client/transport/fork_guard.h"
#include "common/ids.h"
#include "common/mutex.h"

namespace ckpt {

// How long a caller waits for a descriptor that the daemon has announced.
inline constexpr absl::Duration kGrantTimeout = absl::Seconds(30);

class GrantedFiles;

// Keeps a staging file mapped while it lives.
class StagingUse {
 public:
  StagingUse(std::shared_ptr<GrantedFiles> files, FileId id, std::shared_ptr<Mapping> mapping)
      : files_(std::move(files)), id_(id), mapping_(std::move(mapping)) {}
  ~StagingUse();
  StagingUse(const StagingUse&) = delete;
  StagingUse& operator=(const StagingUse&) = delete;
  Mapping& mapping() const { return *mapping_; }

 private:
  const std::shared_ptr<GrantedFiles> files_;
  const FileId id_;
  std::shared_ptr<Mapping> mapping_;
};

// A file of restore plans. Thread-safe.
class ReadFile {
 public:
  ReadFile(FileId id, Descriptor descriptor, uint64_t length)
      : id_(id), descriptor_(std::move(descriptor)), length_(length) {}
  FileId id() const { return id_; }
  int descriptor() const { return descriptor_.number(); }
  uint64_t length() const { return length_; }
  // Of the whole file, not populated; made at the first call.
  absl::StatusOr<std::shared_ptr<Mapping>> Map();
  bool mapped() const;
  // The same file, read past the page cache (offsets, lengths and addresses in multiples of 4096).
  // -1 where that cannot be had: a file system without it, or the file is another user's.
  int direct_descriptor();
  // Whether most of [offset, offset + bytes) is in the page cache. True where nobody says: the
  // kernel tells only the file's owner.
  bool IsCached(uint64_t offset, uint64_t bytes);

 private:
  friend class GrantedFiles;
  const FileId id_;
  const Descriptor descriptor_;
  const uint64_t length_;
  mutable Mutex mutex_;
  // Where this session has the same file mapped for staging, that mapping serves. Declared first:
  // the daemon is told "unmapped" after mapping_ has let go.
  std::unique_ptr<StagingUse> staging_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<Mapping> mapping_ ABSL_GUARDED_BY(mutex_);
  bool direct_tried_ ABSL_GUARDED_BY(mutex_) = false;
  Descriptor direct_ ABSL_GUARDED_BY(mutex_);
};

class GrantedFiles : public std::enable_shared_from_this<GrantedFiles> {
 public:
  explicit GrantedFiles(std::function<void(FileId)> send_unmapped);

  // From the session's thread.
  absl::Status Grant(const v1::FileGrant& grant, Descriptor descriptor);
  void Revoke(FileId id);
  void Close(absl::Status why);  // the session is over: whoever waits gets `why`
  void DropIdle(absl::Time now);

  // Waits for the grant, which may still be on its way. DEADLINE_EXCEEDED, or the status that ended
  // the session; CANCELLED once `given_up` says so, which is asked while the grant isn't there: the
  // daemon takes a file back when its checkpoint is aborted.
  absl::StatusOr<std::unique_ptr<StagingUse>> UseStaging(
      FileId id, uint64_t bytes_min, absl::Time deadline,
      absl::FunctionRef<bool()> given_up = [] { return false; });
  absl::StatusOr<std::shared_ptr<ReadFile>> UseRead(FileId id, absl::Time deadline);
  // Whether it is there now.
  std::shared_ptr<ReadFile> FindRead(FileId id);

  // Around PlanRestore, from before the call until its files were taken by UseRead: grants that
  // arrive are kept. After that a file without users is dropped.
  void BeginPlanning();
  void EndPlanning();
  // A plan has let go of its files.
  void Release(std::vector<std::shared_ptr<ReadFile>> files);

  size_t staging_count() const;
  size_t read_count() const;

 private:
  friend class StagingUse;
  struct Staging {
    Descriptor descriptor;  // until mapped
    uint64_t length = 0;
    std::shared_ptr<Mapping> mapping;
    int uses = 0;
    bool revoked = false;
  };
  struct Read {
    std::shared_ptr<ReadFile> file;
    absl::Time idle_since = absl::InfiniteFuture();
  };

  void ReleaseStaging(FileId id);
  std::unique_ptr<StagingUse> StagingForReading(FileId id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Moves out what nobody uses, to be unmapped without the lock.
  std::vector<std::shared_ptr<ReadFile>> TakeUnused(absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SendUnmapped(FileId id);

  mutable Mutex mutex_;
  CondVar changed_;
  std::map<FileId, Staging> staging_ ABSL_GUARDED_BY(mutex_);
  std::map<FileId, Read> read_ ABSL_GUARDED_BY(mutex_);
  int planning_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status closed_ ABSL_GUARDED_BY(mutex_);

  Mutex send_mutex_;  // never taken together with mutex_
  std::function<void(FileId)> send_unmapped_ ABSL_GUARDED_BY(send_mutex_);
};

}  // namespace ckpt

#endif  // CKPT_CLIENT_TRANSPORT_GRANTED_FILES_H_
