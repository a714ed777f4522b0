// What the kill loop does, drawn from a seed and from nothing else: who dies, when, what is saved
// and how. The same seed gives the same schedule; where exactly a process stands when it is hit is
// the machine's affair.
#ifndef CKPT_TESTS_CRASH_SCHEDULE_H_
#define CKPT_TESTS_CRASH_SCHEDULE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace ckpt::testing {

enum class Victim {
  kDaemon,
  kDaemonAndOneRank,
  kEverybody,
  kOneRank,
  kAllRanks,
  kDrain,        // SIGTERM: the daemon finishes what is staged and ends by itself
  kKilledDrain,  // SIGTERM, and SIGKILL before that is done
  kPower,        // what was not synced is gone, and with it memory and every process
};
inline constexpr int kVictims = 8;
absl::string_view NameOf(Victim victim);

enum class Streams { kNone, kFirstRank, kAll };

// One checkpoint of the job.
struct StepPlan {
  uint64_t part_bytes = 0;  // about
  bool plain = false;
  bool ring = false;             // also where the part would fit in memory some time later
  bool await_committed = false;  // before the next step
};

// One kill, and what leads to it.
struct RunPlan {
  uint32_t number = 0;
  Victim victim = Victim::kDaemon;
  uint32_t rank = 0;          // the victim, where it is one rank
  uint32_t steps_before = 0;  // that the job stages before; then
  absl::Duration delay;       // this long; then the kill
  absl::Duration drain_for;   // from SIGTERM to SIGKILL
  std::vector<absl::Duration> short_lives;  // of the daemon, killed while it recovers
  absl::Duration persist_delay;             // of the daemon that lives
  Streams streams = Streams::kNone;         // which ranks send bytes over gRPC
  bool newest_again = false;                // the launch begins with the newest step once more
  bool resume = false;                      // each rank restores before it saves
  bool restore_by_stream = false;           // the reader, and whoever checks
};

class Schedule {
 public:
  // `power`: every kill is a power cut, or else none is.
  Schedule(uint64_t seed, bool power);

  uint64_t seed() const { return seed_; }
  uint32_t ranks() const { return ranks_; }
  uint64_t memory_budget() const { return memory_budget_; }
  absl::Duration grace() const { return grace_; }
  absl::Duration drain_deadline() const { return drain_deadline_; }
  // Whether the daemon deletes by its policy what is not among the newest; else an operator does.
  bool retention() const { return retention_; }

  RunPlan Run(uint32_t number) const;
  // The `number`th checkpoint that is begun in that run.
  StepPlan Step(uint32_t run, uint32_t number) const;

 private:
  const uint64_t seed_;
  const bool power_;
  uint32_t ranks_ = 0;
  uint64_t memory_budget_ = 0;
  absl::Duration grace_;
  absl::Duration drain_deadline_;
  bool retention_ = false;
};

}  // namespace ckpt::testing

#endif  // CKPT_TESTS_CRASH_SCHEDULE_H_
