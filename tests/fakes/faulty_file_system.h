// A file system that works on real files until it is told to fail, and that can lose what was not
// synced. Thread-safe.
//
// Every call that changes something, and every read, is an operation with a kind and a number.
// FailOn makes chosen operations fail; CrashAt makes operation n and everything after it fail, as
// if the process had died there (clean-up included); PowerLoss then takes away what no sync had
// made durable: bytes of files never synced, and names whose folder was not synced.
#ifndef CKPT_TESTS_FAKES_FAULTY_FILE_SYSTEM_H_
#define CKPT_TESTS_FAKES_FAULTY_FILE_SYSTEM_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "common/mutex.h"
#include "server/storage/file_system.h"

namespace ckpt {

class FaultyFileSystem : public FileSystem {
 public:
  enum class Call { kCreate, kWrite, kTruncate, kSync, kRename, kUnlink, kSyncFolder, kRead };

  // `shadow` is an empty folder of the same file system, outside of what is tested: what was
  // removed but not yet durably so is kept there.
  explicit FaultyFileSystem(std::string shadow) : shadow_(std::move(shadow)) {}

  // The `nth` (from 1) `call` on a path that contains `path_part` fails with `status`, and so do
  // the `times` - 1 after it.
  void FailOn(Call call, std::string path_part, int nth, absl::Status status, int times = 1);
  // Changing operation `number` (from 1) and all after it fail, reads too.
  void CrashAt(uint64_t number);
  uint64_t operations();  // changing ones so far
  int calls(Call call, const std::string& path_part);
  // What List, Space and so on say is not faked, but the free space can be.
  void SetFreeBytes(std::optional<uint64_t> bytes);
  // Undoes on disk what was not durable. Call it when everything that writes has stopped.
  void PowerLoss();

  absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path,
                                                       const CreateFileOptions& options) override;
  absl::StatusOr<std::unique_ptr<ReadableFile>> OpenRead(const std::string& path) override;
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status Unlink(const std::string& path) override;
  absl::Status MakeFolder(const std::string& path) override;
  absl::Status RemoveFolder(const std::string& path) override;
  absl::Status SyncFolder(const std::string& path) override;
  absl::StatusOr<std::vector<std::string>> List(const std::string& path) override;
  absl::StatusOr<DiskSpace> Space(const std::string& path) override;

 private:
  friend class FaultyWritable;
  friend class FaultyReadable;
  struct Rule {
    Call call;
    std::string path_part;
    int nth;
    int times;
    absl::Status status;
    int seen = 0;
  };
  struct CallMade {
    Call call;
    std::string path;
  };
  // A change of a folder that its sync makes durable: how to take it back.
  struct Undo {
    std::string folder;
    std::string remove;   // unlink this name
    std::string restore;  // then link this ...
    std::string to;       // ... to that name
  };

  absl::Status Before(Call call, const std::string& path);
  void WriteSynced(uint64_t inode);
  std::string Keep(const std::string& path) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string shadow_;
  Mutex mutex_;
  std::vector<Rule> rules_ ABSL_GUARDED_BY(mutex_);
  std::vector<CallMade> made_ ABSL_GUARDED_BY(mutex_);
  uint64_t operations_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t crash_at_ ABSL_GUARDED_BY(mutex_) = 0;
  bool crashed_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<uint64_t> free_bytes_ ABSL_GUARDED_BY(mutex_);
  std::vector<Undo> undo_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_set<uint64_t> unsynced_ ABSL_GUARDED_BY(mutex_);  // inodes
  int kept_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace ckpt

#endif  // CKPT_TESTS_FAKES_FAULTY_FILE_SYSTEM_H_
