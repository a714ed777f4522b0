// A rank as a process of its own (rank_main.cc), told what to do line by line: it can be killed,
// stopped, made to fork or to spoil its mapping at a chosen moment. Each command is a JSON object
// with `do`; each is answered by one with `code` and `message` (of an absl::Status) and more.
#ifndef CKPT_TESTS_INTEGRATION_RANK_PROCESS_H_
#define CKPT_TESTS_INTEGRATION_RANK_PROCESS_H_

#include <sys/types.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/checkpoint_id.h"
#include "nlohmann/json.hpp"

namespace ckpt::testing {

// What a rank saves: TestState::Mixed or ::Plain of so many bytes.
struct RankSave {
  CheckpointId id;
  uint32_t rank = 0;
  uint32_t world_size = 1;
  uint64_t seed = 1;
  uint64_t bytes = 1 << 20;
  bool plain = false;
  bool stream = false;
  std::string on_full;  // "wait" (default), "ring", "refuse"
  bool replace = false;
  int64_t join_ms = 0;   // 0: the client's default
  int64_t hold_at = -1;  // stops copying its first leaf at this byte, until killed or released
};

class RankProcess {
 public:
  // Connected to the daemon when it returns.
  static absl::StatusOr<std::unique_ptr<RankProcess>> Start(const std::string& socket);
  ~RankProcess();  // kills
  RankProcess(const RankProcess&) = delete;
  RankProcess& operator=(const RankProcess&) = delete;

  // Starts a save; its fate comes by AwaitStaged and AwaitCommitted.
  absl::Status Save(const RankSave& save);
  absl::Status AwaitStaged(absl::Duration timeout = absl::Seconds(60));
  absl::Status AwaitCommitted(absl::Duration timeout = absl::Seconds(60));
  absl::Status AwaitHeld();  // the copy has reached hold_at
  absl::Status Release();    // goes on copying
  // Restores as `rank` of `world_size` and compares every byte with the state of save.seed.
  absl::Status Restore(const std::string& selector, const RankSave& save);
  // The same at the same time as the other `together` - 1 ranks of the launch save.id.incarnation;
  // the bytes that this rank made the kernel fetch from disk.
  absl::StatusOr<uint64_t> RestoreTogether(const std::string& selector, const RankSave& save,
                                           uint32_t together);
  // Any command; the answer's fields.
  absl::StatusOr<nlohmann::json> Ask(const nlohmann::json& command,
                                     absl::Duration timeout = absl::Seconds(60));

  pid_t pid() const { return pid_; }
  void Kill();              // SIGKILL, and reaped
  void Signal(int number);  // SIGSTOP, SIGCONT

 private:
  RankProcess(pid_t pid, int commands, int answers)
      : pid_(pid), commands_(commands), answers_(answers) {}
  absl::StatusOr<std::string> ReadLine(absl::Time deadline);

  pid_t pid_;
  int commands_;
  int answers_;
  std::string buffered_;
};

}  // namespace ckpt::testing

#endif  // CKPT_TESTS_INTEGRATION_RANK_PROCESS_H_
