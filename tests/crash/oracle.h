// What must hold whenever the daemon is up and has nothing left to do: the promises of the history
// are kept, byte for byte, and nothing lies about that no checkpoint needs.
#ifndef CKPT_TESTS_CRASH_ORACLE_H_
#define CKPT_TESTS_CRASH_ORACLE_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "client/client.h"
#include "tests/crash/history.h"
#include "tests/fixtures/daemon.h"
#include "tests/fixtures/daemon_calls.h"

namespace ckpt::testing {

class Oracle {
 public:
  Oracle(const Daemon* daemon, DaemonCalls* calls, History* history)
      : daemon_(*daemon), calls_(*calls), history_(*history) {}

  // Nobody saves, restores or deletes meanwhile. In this order: what all ranks saw staged becomes
  // committed; the daemon comes to rest with folders that hold what checkpoints need and no more;
  // the history agrees with what is there; tags stand; each checkpoint is listed, if it is the one
  // that counts at its step, and restores bit-equal; `latest` is the newest; what was deleted is
  // not found.
  absl::Status Check(Client& client, bool by_stream);

  // As the last Check left it.
  const std::optional<Attempt>& newest() const { return newest_; }
  uint64_t restored() const { return restored_; }  // checkpoints, of all Checks

 private:
  absl::Status AwaitPromised();
  absl::Status CheckTags();
  absl::Status CheckList(const std::set<CheckpointId>& there);
  absl::Status CheckBytes(Client& client, const CheckpointId& id, bool by_stream);
  absl::Status CheckGone();

  const Daemon& daemon_;
  DaemonCalls& calls_;
  History& history_;
  std::optional<Attempt> newest_;
  uint64_t restored_ = 0;
};

}  // namespace ckpt::testing

#endif  // CKPT_TESTS_CRASH_ORACLE_H_
