// Every protocol, stopped before or after every single call that it makes, of both stores at once.
// What comes after: the process is started again with all that it wrote, or the machine is, with
// what was synced, or with that and some more.
//
// After the crash the daemon's start must succeed and the oracle find nothing wrong; the next save
// must commit; and a power cut then must find all of that durable.
//
//   CKPT_CRASH_EVERY=n   only every n-th call; 1: all of them; by default 7 or more, for the time
//   CKPT_CRASH_SEED=n    another choice of what survives, and of those calls
//   CKPT_CRASH_ROUNDS=n  so many choices, from that seed on; every other one crashes after the call
//                        where the one before crashed before it
#include <algorithm>
#include <iostream>

#include "gtest/gtest.h"
#include "tests/crash/protocols.h"
#include "tests/fixtures/setting.h"

namespace ckpt::crash {
namespace {

using Moment = FaultyDisk::Moment;

enum class Fate { kProcessDies, kPowerCut, kPowerCutKeepsSome };
constexpr const char* kFateNames[] = {"ProcessDies", "PowerCut", "PowerCutKeepsSome"};

class CrashPoints : public testing::TestWithParam<std::tuple<size_t, Fate>> {
 protected:
  static constexpr uint64_t kPointsMax = 100000;  // a protocol that does not end

  const Protocol& protocol() const { return Protocols()[std::get<0>(GetParam())]; }
  Fate fate() const { return std::get<1>(GetParam()); }

  void Prepare() {
    base_ = std::make_unique<Machine>(folder_.path() + "/base", protocol().memtables_bytes_max);
    const absl::Status prepared = protocol().prepare(*base_);
    ASSERT_TRUE(prepared.ok()) << prepared;
    base_->Stop();
  }

  // One crash and all that follows it. False: the protocol ended before.
  bool Crash(uint64_t number, Moment moment, uint64_t seed) {
    Machine machine(folder_.path() + "/machine", *base_);
    if (protocol().running) {
      const absl::Status started = machine.Start();
      EXPECT_TRUE(started.ok()) << started;
    }
    machine.disk().CrashAt(machine.disk().operations() + number, moment);
    const absl::Status outcome = protocol().run(machine);
    machine.Stop();
    const bool reached = machine.disk().crashed();
    EXPECT_TRUE(reached || outcome.ok()) << outcome;
    Lose(machine, fate(), seed);
    Restart(machine);
    if (HasFailure()) return reached;
    const absl::Status saved = machine.Save(IdOf("r", 7), 70);
    EXPECT_TRUE(saved.ok()) << saved;
    machine.Stop();
    Lose(machine, Fate::kPowerCut, seed);
    Restart(machine);
    return reached;
  }

  void Lose(Machine& machine, Fate fate, uint64_t seed) {
    machine.disk().Restart();
    if (fate == Fate::kProcessDies) return;
    fate == Fate::kPowerCut ? machine.disk().PowerLoss() : machine.disk().PowerLoss(seed);
    machine.kept_parts.clear();
  }

  void Restart(Machine& machine) {
    const absl::Status started = machine.Start();
    ASSERT_TRUE(started.ok()) << started;
    if (protocol().resume != nullptr && !machine.kept_parts.empty()) {
      const absl::Status resumed = protocol().resume(machine);
      EXPECT_TRUE(resumed.ok()) << resumed;
      machine.kept_parts.clear();
    }
    EXPECT_EQ(machine.Oracle(), "");
  }

  TemporaryFolder folder_;
  std::unique_ptr<Machine> base_;
};

TEST_P(CrashPoints, EachLosesNothing) {
  ASSERT_NO_FATAL_FAILURE(Prepare());
  const uint64_t first_seed = TestSetting("CKPT_CRASH_SEED", 1);
  const uint64_t rounds = TestSetting("CKPT_CRASH_ROUNDS", 1);
  const uint64_t every = Every(protocol());
  uint64_t points = 0;
  uint64_t passed = 0;
  for (uint64_t seed = first_seed; seed < first_seed + rounds && !HasFailure(); ++seed) {
    // After a call the disk is as it is before the next: each fate begins with one of the two.
    const bool before = (seed + static_cast<uint64_t>(fate())) % 2 == 1;
    bool reached = true;
    for (uint64_t number = 1 + seed % std::min<uint64_t>(every, 7); reached && !HasFailure();
         number += every) {
      SCOPED_TRACE(testing::Message() << (before ? "before" : "after") << " call " << number
                                      << ", CKPT_CRASH_SEED=" << seed);
      ASSERT_LT(number, kPointsMax) << "the protocol does not end";
      reached = Crash(number, before ? Moment::kBefore : Moment::kAfter,
                      seed * kPointsMax + number);
      points += reached ? 1 : 0;
      passed += reached && !HasFailure() ? 1 : 0;
    }
  }
  EXPECT_GT(points, 0u) << "too few calls for a protocol";
  std::cout << "crash points: " << protocol().name << "/" << kFateNames[static_cast<int>(fate())]
            << ": " << passed << " of " << points << " (seed " << first_seed << ", rounds "
            << rounds << ", every " << every << ")\n";
}

INSTANTIATE_TEST_SUITE_P(
    All, CrashPoints,
    testing::Combine(testing::Range(size_t{0}, Protocols().size()),
                     testing::Values(Fate::kProcessDies, Fate::kPowerCut,
                                     Fate::kPowerCutKeepsSome)),
    [](const auto& info) {
      return std::string(Protocols()[std::get<0>(info.param)].name) +
             kFateNames[static_cast<int>(std::get<1>(info.param))];
    });

}  // namespace
}  // namespace ckpt::crash
