// Who else uses the daemon while it is killed: somebody who restores what is newest, and an
// operator who lists, tags and deletes old checkpoints. Each is a loop for a thread of its own,
// until `stop`; an error is a broken promise, never that the daemon was away.
#ifndef CKPT_TESTS_CRASH_BYSTANDERS_H_
#define CKPT_TESTS_CRASH_BYSTANDERS_H_

#include <atomic>
#include <cstdint>

#include "absl/status/status.h"
#include "client/client.h"
#include "tests/crash/history.h"
#include "tests/fixtures/daemon_calls.h"

namespace ckpt::testing {

// Restores the newest checkpoint again and again; every byte is compared. Counts whole ones.
absl::Status RestoreNewest(Client& client, History& history, bool by_stream,
                           const std::atomic<bool>& stop, uint64_t& restored);

struct Operated {
  uint64_t deleted = 0;
  uint64_t tagged = 0;
};
// Keeps the newest three, and what is tagged; moves two tags about. `seed` says which and when.
absl::Status Operate(DaemonCalls& calls, History& history, uint64_t seed,
                     const std::atomic<bool>& stop, Operated& operated);

}  // namespace ckpt::testing

#endif  // CKPT_TESTS_CRASH_BYSTANDERS_H_
