// A disk that fails when told to and forgets what was not synced: the fault model of the crash
// tests (tests/crash/README.md). It works on real files; the data folder's files reach it through
// FaultyFileSystem and RocksDB's through MakeFaultyRocks, so that both stores crash together.
// Thread-safe.
//
// Every call that changes something, every sync and every read is an operation with a kind; all but
// reads have a number. FailOn makes chosen operations fail. CrashAt ends the process just before or
// just after operation n: whatever comes later fails, clean-up included. Restart starts it again:
// what the process had written is there, synced or not. PowerLoss takes away what no sync had made
// durable: bytes behind a file's last sync, and names that changed since their folder's.
#ifndef CKPT_TESTS_FAKES_FAULTY_DISK_H_
#define CKPT_TESTS_FAKES_FAULTY_DISK_H_

#include <cstdint>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "common/mutex.h"

namespace ckpt {

class FaultyDisk {
 public:
  enum class Call {
    kCreate, kWrite, kTruncate, kSync, kRename, kUnlink, kMakeFolder, kRemoveFolder, kSyncFolder,
    kRead
  };
  enum class Moment { kBefore, kAfter };
  using Real = absl::FunctionRef<absl::Status()>;  // what the operation does to the real files

  // `shadow` is an empty folder of the same file system, outside of what is tested: what was
  // removed but not yet durably so is kept there.
  explicit FaultyDisk(std::string shadow) : shadow_(std::move(shadow)) {}

  // A sync that fails loses what it was to make durable, as the kernel does: no later one brings it
  // back. The `nth` (from 1) `call` on a path that contains `path_part` fails with `status`, and so
  // do the `times` - 1 after it.
  void FailOn(Call call, std::string path_part, int nth, absl::Status status, int times = 1);
  // Operation `number` alone fails with `status`, whatever it is.
  void FailAt(uint64_t number, absl::Status status);
  // Operation `number` (from 1) is the last that is done, or the first that isn't.
  void CrashAt(uint64_t number, Moment moment = Moment::kBefore);
  bool crashed();
  uint64_t operations();  // so far, without reads
  int calls(Call call, const std::string& path_part);  // failed ones included
  // What the operation of FailAt was; nullopt: it was not reached.
  struct CallMade {
    Call call;
    std::string path;
  };
  std::optional<CallMade> failed();

  // Nothing fails any more. Call these two when everything that writes has stopped.
  void Restart();
  // None of it survives.
  void PowerLoss();
  // A part of it that `seed` chooses, as of a real disk: each name as it was at some moment since
  // its folder's sync (a rename takes effect as one); of the bytes behind a file's last sync some
  // sectors of 512 bytes, up to a torn end, and zeros or noise in place of the others.
  void PowerLoss(uint64_t seed);
  // Names in folders whose path contains this survive in the order in which they were changed.
  void KeepOrderIn(std::string path_part);
  // Of files that were made under a path that contains this a prefix survives, without holes.
  void KeepPrefixesOf(std::string path_part);

  // The operations, for those who put a file system in front of it.
  absl::Status Create(const std::string& path, Real create);  // of a new file, or in place of one
  absl::Status Write(const std::string& path, Real write);
  absl::Status Truncate(const std::string& path, Real truncate);
  absl::Status Sync(const std::string& path, uint64_t inode, Real sync);
  absl::Status Rename(const std::string& from, const std::string& to, Real rename);
  absl::Status Unlink(const std::string& path, Real unlink);
  absl::Status MakeFolder(const std::string& path, Real make);
  absl::Status RemoveFolder(const std::string& path);
  absl::Status SyncFolder(const std::string& path, Real sync);
  absl::Status Read(const std::string& path, Real read);

  static uint64_t InodeOf(const std::string& path);  // 0: not there

 private:
  struct Rule {
    Call call;
    std::string path_part;
    int nth;
    int times;
    absl::Status status;
    int seen = 0;
  };
  // A name in a folder, which is its inode: it may be renamed itself.
  using Name = std::pair<uint64_t, std::string>;
  // What a name stands for: nothing (empty), a file (its link in the shadow folder), or a folder
  // (kFolder and its inode).
  using Value = std::string;
  // Names that change as one.
  using Change = std::map<Name, Value>;
  struct File {
    std::string link;  // in the shadow folder
    uint64_t synced_bytes = 0;
    bool lost = false;  // a sync failed
    std::string made_as;
  };

  absl::Status Do(Call call, const std::string& path, Real real);
  absl::Status DoChange(Call call, const std::string& path, Real real);
  Name NameOf(const std::string& path) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Value ValueOf(const std::string& path) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void KeepOld(const std::string& path) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Lose(std::mt19937_64* random);
  std::map<Name, Value> Survivors(std::mt19937_64* random) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void LoseNames(std::mt19937_64* random) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string shadow_;
  Mutex names_mutex_;  // one change of names at a time; before mutex_
  Mutex mutex_;
  std::vector<Rule> rules_ ABSL_GUARDED_BY(mutex_);
  std::vector<CallMade> made_ ABSL_GUARDED_BY(mutex_);
  uint64_t operations_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t crash_at_ ABSL_GUARDED_BY(mutex_) = 0;
  Moment moment_ ABSL_GUARDED_BY(mutex_) = Moment::kBefore;
  bool crashed_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t fail_at_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status fail_status_ ABSL_GUARDED_BY(mutex_);
  std::optional<CallMade> failed_ ABSL_GUARDED_BY(mutex_);

  std::string prefixed_ ABSL_GUARDED_BY(mutex_);
  std::string ordered_ ABSL_GUARDED_BY(mutex_);
  std::vector<Change> changes_ ABSL_GUARDED_BY(mutex_);  // not synced, oldest first
  std::map<Name, Value> durable_ ABSL_GUARDED_BY(mutex_);  // of every name that ever changed
  absl::flat_hash_map<uint64_t, File> files_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<uint64_t, std::string> folders_ ABSL_GUARDED_BY(mutex_);  // where each is
  uint64_t kept_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace ckpt

#endif  // CKPT_TESTS_FAKES_FAULTY_DISK_H_
