// A daemon's inside in the test's process: data folder on disk, memory tier on tmpfs, session
// socket, index, persister and table, with a clock that the test moves. Crash takes it down as a
// kill would leave it (nothing that was staged is finished), Start brings the next one up.
#ifndef CKPT_TESTS_STAGING_STAGING_RIG_H_
#define CKPT_TESTS_STAGING_STAGING_RIG_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "common/digest.h"
#include "gtest/gtest.h"
#include "server/index/index.h"
#include "server/persist/persister.h"
#include "server/session/session.h"
#include "server/staging/checkpoint_table.h"
#include "server/staging/memory_tier.h"
#include "server/storage/data_folder.h"
#include "tests/fakes/faulty_file_system.h"
#include "tests/fakes/faulty_index.h"
#include "tests/staging/layouts.h"
#include "tests/staging/session_client.h"

namespace ckpt {

inline constexpr uint64_t kMiB = 1 << 20;

class TestClock : public Clock {
 public:
  absl::Time Now() const override;
  void Advance(absl::Duration duration);

 private:
  mutable Mutex mutex_;
  absl::Time now_ ABSL_GUARDED_BY(mutex_) = absl::Now();
};

// A folder of its own under `parent`, removed at the end.
class TestFolder {
 public:
  explicit TestFolder(const std::string& parent);
  ~TestFolder();
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

struct RigOptions {
  uint64_t budget_bytes = 64 << 20;
  uint64_t ring_bytes = 0;
  std::vector<QuotaSection> quotas;
  absl::Duration persist_delay;  // how long a staged part is held back from the disk
  size_t runs_kept_min = 1000;   // as CheckpointTableOptions
  bool faulty_disk = true;       // files() are in front of the disk, and remember every call
};

class StagingRig {
 public:
  explicit StagingRig(RigOptions options = {});
  ~StagingRig();
  void Start();
  void Crash();
  RigOptions& options() { return options_; }

  MemoryTier& tier() { return *tier_; }
  CheckpointTable& table() { return *table_; }
  FaultyIndex& index() { return *index_; }
  DataFolder& data() { return *data_; }
  SessionServer& sessions() { return *sessions_; }
  TestClock& clock() { return clock_; }
  FaultyFileSystem& files() { return files_; }
  const CheckpointTable::Adopted& adopted() const { return adopted_; }
  const std::string& memory_folder() const { return memory_folder_.path(); }
  std::string socket_path() const { return memory_folder_.path() + ".fd"; }

  std::shared_ptr<Session> Find(const SessionClient& client);
  // A claim for shared memory (with a client) or the stream transport (without).
  PartClaim Claim(uint64_t step, uint32_t rank, uint32_t world_size, const PartLayout& layout,
                  const SessionClient* client = nullptr);
  // Begin, layout if it is needed, Open.
  struct Opened {
    std::unique_ptr<PartStream> stream;
    v1::Accepted accepted;
  };
  absl::StatusOr<Opened> Open(PartClaim claim, const std::shared_ptr<const PartLayout>& layout);
  // All of it: writes the pattern and finishes.
  absl::Status Save(PartClaim claim, const std::shared_ptr<const PartLayout>& layout, uint32_t seed,
                    SessionClient* client = nullptr);
  absl::Status WaitFor(const CheckpointId& id, v1::CheckpointState state);
  // The bytes of the first tensor of that rank, as they lie on disk.
  absl::StatusOr<std::string> ReadBack(const CheckpointId& id, uint32_t rank);

  const std::string run = "team/llama";
  Incarnation incarnation = Incarnation::TimeOrdered();
  CheckpointId Id(uint64_t step) const { return {run, step, incarnation}; }

 private:
  RigOptions options_;
  TestFolder memory_folder_;
  TestFolder data_folder_;
  TestClock clock_;
  FaultyFileSystem files_;
  std::unique_ptr<SessionServer> sessions_;
  std::unique_ptr<DataFolder> data_;
  std::unique_ptr<FaultyIndex> index_;
  std::unique_ptr<MemoryTier> tier_;
  std::unique_ptr<Persister> persister_;
  std::unique_ptr<CheckpointTable> table_;
  CheckpointTable::Adopted adopted_;
};

inline bool Never() { return false; }

// Bytes as they come over the wire, in one piece. Lives as long as the expression.
class Received {
 public:
  explicit Received(absl::string_view bytes) : piece_(bytes) {}
  operator ReceivedBytes() const { return {{&piece_, 1}, Crc32c(piece_)}; }

 private:
  const absl::string_view piece_;
};

}  // namespace ckpt

#endif  // CKPT_TESTS_STAGING_STAGING_RIG_H_
