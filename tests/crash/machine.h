// A machine with one data folder on a disk that fails (tests/fakes/faulty_disk.h), a daemon on it,
// as far as folder and index go, and a book of what that daemon has promised so far.
//
// What is done through it is entered into the book by its outcome, as a client would see it. The
// oracle compares the book with the disk. One thread.
#ifndef CKPT_TESTS_CRASH_MACHINE_H_
#define CKPT_TESTS_CRASH_MACHINE_H_

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "tests/fakes/faulty_file_system.h"
#include "tests/fakes/faulty_rocks.h"
#include "tests/persist/persist_fixture.h"

namespace ckpt::crash {

// What is known of one checkpoint from outside.
struct Promise {
  enum class State {
    kCommitted,  // said so
    kUnknown,    // the answer to its commit, or to its deletion, was lost: either is right
    kGone,       // deleted or replaced, and said so; or never committed
  };
  State state = State::kUnknown;
  uint32_t seed = 0;  // of its bytes
  std::optional<CheckpointUid> replaces;  // exactly one of the two is there
  // The tags that it may have; the last one is what was asked for last.
  std::vector<std::set<std::string>> tags = {{}};
};

// Two ranks save this much each.
inline const std::vector<uint64_t> kTensorBytes = {5000, 3};
inline constexpr uint32_t kRanks = 2;

class Machine {
 public:
  // A fresh folder. With few `memtables_bytes_max` the index writes a table with nearly every
  // batch.
  explicit Machine(const std::string& path, size_t memtables_bytes_max = 64 << 20);
  // As `other` stands, which must be stopped, in a folder of its own, all of it durable.
  Machine(const std::string& path, const Machine& other);
  ~Machine();

  // What the daemon does at its start: opens folder and index, and recovers. One that cannot has
  // ended.
  absl::Status Start();
  void Stop();  // the end of the process, however it came about
  bool started() const { return store_ != nullptr; }
  FaultyFileSystem& disk() { return *disk_; }
  Store& store() { return *store_; }
  const std::string& data() const { return data_; }
  IndexEnvironment* index_environment() { return rocks_.get(); }

  // A checkpoint that is to be: its uid, entered into the book as one that nobody was told of.
  CheckpointUid Expect(uint32_t seed);
  absl::Status Save(const CheckpointId& id, uint32_t seed,
                    const std::vector<uint64_t>& tensor_bytes = kTensorBytes);
  // Replaces that one: with its commit the other goes, at once or at the next start.
  absl::Status Replace(const CheckpointId& id, CheckpointUid replaced, uint32_t seed);
  absl::Status Delete(CheckpointUid uid);
  // As TagCheckpoint: label file, then index.
  absl::Status SetTags(CheckpointUid uid, const std::set<std::string>& tags);
  void Committed(CheckpointUid uid) { book_[uid].state = Promise::State::kCommitted; }
  std::map<CheckpointUid, Promise>& book() { return book_; }

  // Parts that are durable, not committed, and known to the memory tier: it outlives the daemon,
  // not the machine.
  absl::flat_hash_set<FileId> kept_parts;

  // Compares; what was unknown is known afterwards, and must stay so. Empty: all is well.
  std::string Oracle();

 private:
  absl::Status Answered(CheckpointUid uid, absl::Status saved);
  std::string CheckCheckpoints();
  std::string CheckFiles();

  const std::string path_;
  const std::string data_;
  const size_t memtables_bytes_max_;
  std::unique_ptr<FaultyFileSystem> disk_;
  std::shared_ptr<IndexEnvironment> rocks_;
  std::unique_ptr<Store> store_;
  std::map<CheckpointUid, Promise> book_;
};

}  // namespace ckpt::crash

#endif  // CKPT_TESTS_CRASH_MACHINE_H_
