// One seed of the kill loop: a fresh data folder, a daemon, a job and bystanders, and so many runs;
// each is a kill, recovery and the whole oracle. At the end the daemon stops and `ckptutil verify`
// reads the closed folder.
#ifndef CKPT_TESTS_CRASH_EPISODE_H_
#define CKPT_TESTS_CRASH_EPISODE_H_

#include <array>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "tests/crash/schedule.h"

namespace ckpt::testing {

struct EpisodeOptions {
  uint64_t seed = 1;
  uint32_t runs = 1;
  std::string folder;          // made anew; on an error it holds data, memory, log and history
  bool power = false;          // each kill is a power cut
  absl::Time until = absl::InfiniteFuture();  // no run begins after that
};

// What happened; summed over episodes.
struct Figures {
  uint64_t runs = 0;
  std::array<uint64_t, kVictims> by_victim{};
  uint64_t starts = 0;          // of the daemon
  uint64_t killed_starting = 0;  // of these, killed while it recovered
  uint64_t begun = 0;           // checkpoints
  uint64_t staged = 0;          // by all ranks, as they were told
  uint64_t committed = 0;
  uint64_t adopted_parts = 0;
  uint64_t deleted = 0;  // by the operator
  uint64_t retired = 0;  // by retention
  uint64_t tagged = 0;
  uint64_t restored_meanwhile = 0;  // by ranks and the reader
  uint64_t restored_after = 0;      // by the oracle
  absl::Duration storm;             // wall time of each phase
  absl::Duration recovery;
  absl::Duration oracle;

  void Add(const Figures& other);
};

// DATA_LOSS: a promise was broken. Anything else is an error, too, and as bad: a daemon that does
// not start, a call that hangs, a save that fails undisturbed. PERMISSION_DENIED: no power to cut.
absl::Status PlayEpisode(const EpisodeOptions& options, Figures& figures);

}  // namespace ckpt::testing

#endif  // CKPT_TESTS_CRASH_EPISODE_H_
