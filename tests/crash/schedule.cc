#include "tests/crash/schedule.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <utility>

namespace ckpt::testing {
namespace {

constexpr uint64_t kPartBytesMax = 8 << 20;

class Dice {
 public:
  Dice(uint64_t seed, uint32_t run, uint32_t step) {
    std::seed_seq sequence{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32), run,
                           step};
    random_.seed(sequence);
  }
  uint64_t Below(uint64_t bound) { return random_() % bound; }
  bool OneIn(uint64_t n) { return Below(n) == 0; }
  absl::Duration UpTo(absl::Duration bound) {
    return absl::Microseconds(Below(static_cast<uint64_t>(absl::ToInt64Microseconds(bound))));
  }
  // Small ones are as likely as large ones.
  uint64_t Size(uint64_t least, uint64_t most) {
    const double unit = static_cast<double>(Below(1 << 20)) / (1 << 20);
    return static_cast<uint64_t>(static_cast<double>(least) *
                                 std::pow(static_cast<double>(most) / least, unit));
  }

 private:
  std::mt19937_64 random_;
};

Victim DrawVictim(Dice& dice) {
  constexpr std::pair<Victim, uint64_t> kOf40[] = {
      {Victim::kDaemon, 16},  {Victim::kDaemonAndOneRank, 5}, {Victim::kEverybody, 6},
      {Victim::kOneRank, 5},  {Victim::kAllRanks, 3},         {Victim::kKilledDrain, 4},
      {Victim::kDrain, 1}};  // takes two seconds: a daemon that stops lets its calls end
  uint64_t left = dice.Below(40);
  for (const auto& [victim, share] : kOf40) {
    if (left < share) return victim;
    left -= share;
  }
  return Victim::kDaemon;
}

}  // namespace

absl::string_view NameOf(Victim victim) {
  constexpr absl::string_view kNames[kVictims] = {
      "daemon", "daemon and one rank", "everybody",       "one rank",
      "ranks",  "drain",               "drain cut short", "power"};
  return kNames[static_cast<int>(victim)];
}

Schedule::Schedule(uint64_t seed, bool power) : seed_(seed), power_(power) {
  Dice dice(seed, UINT32_MAX, 0);
  ranks_ = static_cast<uint32_t>(2 + dice.Below(2));
  memory_budget_ = (uint64_t{3} << dice.Below(4)) << 20;  // 3 to 24 MiB
  grace_ = dice.OneIn(3) ? absl::Milliseconds(200) : absl::Milliseconds(20);
  drain_deadline_ = dice.OneIn(2) ? absl::Seconds(20) : absl::Milliseconds(10);
  retention_ = dice.OneIn(2);
}

RunPlan Schedule::Run(uint32_t number) const {
  Dice dice(seed_, number, 0);
  RunPlan run{.number = number};
  run.victim = DrawVictim(dice);
  if (power_) run.victim = Victim::kPower;
  run.rank = static_cast<uint32_t>(dice.Below(ranks_));
  run.steps_before = static_cast<uint32_t>(dice.Below(3));
  run.delay = dice.UpTo(absl::Milliseconds(25));
  run.drain_for = dice.UpTo(absl::Milliseconds(20));
  for (uint64_t i = dice.OneIn(3) ? 1 + dice.Below(2) : 0; i > 0; --i) {
    run.short_lives.push_back(dice.UpTo(absl::Milliseconds(80)));
  }
  if (dice.OneIn(3)) run.persist_delay = absl::Milliseconds(1 + dice.Below(60));
  const uint64_t streams = dice.Below(8);
  if (streams == 0) run.streams = Streams::kAll;
  if (streams == 1) run.streams = Streams::kFirstRank;
  run.newest_again = dice.OneIn(4);
  run.resume = dice.OneIn(3);
  run.restore_by_stream = dice.OneIn(4);
  return run;
}

StepPlan Schedule::Step(uint32_t run, uint32_t number) const {
  // Of most launches all checkpoints have one layout, as a real job's do.
  Dice launch(seed_, run, 1);
  const bool one_layout = !launch.OneIn(4);
  Dice size(seed_, run, one_layout ? 2 : 3 + number);
  Dice dice(seed_, run, UINT32_MAX - number);
  StepPlan step;
  step.part_bytes = size.OneIn(8) ? size.Size(1 << 20, kPartBytesMax) : size.Size(1 << 10, 1 << 20);
  step.plain = size.OneIn(4);
  // Parts that do not all fit at once would wait for one another.
  step.ring = dice.OneIn(4) || step.part_bytes * ranks_ > memory_budget_ * 3 / 4;
  step.await_committed = dice.OneIn(3);
  return step;
}

}  // namespace ckpt::testing
