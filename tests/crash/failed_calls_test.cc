// Every call of the protocols fails once, without a crash: no room (ENOSPC) or a device that cannot
// (EIO). The protocol's answer is to be believed: what it reports as committed is, what it reports
// as failed is not there. The process lives and its next save commits; and after a power cut the
// oracle finds nothing wrong. A start, and what is done without a daemon, may refuse instead: the
// next one, which nothing fails, finishes the work.
//
//   CKPT_CRASH_EVERY=n, CKPT_CRASH_SEED=n  as for crash_points_test.cc
#include <algorithm>
#include <iostream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "server/storage/names.h"
#include "tests/crash/protocols.h"
#include "tests/fixtures/setting.h"

namespace ckpt::crash {
namespace {

using Call = FaultyDisk::Call;

struct Fault {
  const char* name;
  absl::StatusCode code;
};
constexpr Fault kFaults[] = {{"NoRoom", absl::StatusCode::kResourceExhausted},
                             {"DeviceError", absl::StatusCode::kInternal}};

class FailedCalls : public testing::TestWithParam<std::tuple<size_t, size_t>> {
 protected:
  const Protocol& protocol() const { return Protocols()[std::get<0>(GetParam())]; }
  const Fault& fault() const { return kFaults[std::get<1>(GetParam())]; }

  // False: the protocol ended before.
  bool Fail(const Machine& base, uint64_t number) {
    Machine machine(folder_.path() + "/machine", base);
    if (protocol().running) {
      EXPECT_TRUE(machine.Start().ok());
    }
    FaultyFileSystem& disk = machine.disk();
    disk.FailAt(disk.operations() + number, absl::Status(fault().code, "told to fail"));
    const absl::Status outcome = protocol().run(machine);
    const auto failed = disk.failed();
    EXPECT_TRUE(failed.has_value() || outcome.ok()) << outcome;
    disk.Restart();  // nothing fails any more; the process goes on
    if (machine.started()) Save(machine, 7);
    machine.Stop();
    if (failed.has_value() && failed->call == Call::kSync) {
      // Given up: its one sync in life was that one.
      EXPECT_TRUE(absl::StrContains(failed->path, absl::StrCat("/", names::kIndex)) ||
                  disk.calls(Call::kSync, failed->path) == 1)
          << "synced again after a failure: " << failed->path;
    }
    if (!protocol().running) {
      if (!Restart(machine)) return false;
      Save(machine, 8);
      machine.Stop();
    }
    disk.PowerLoss();
    machine.kept_parts.clear();
    return Restart(machine) && failed.has_value();
  }

  void Save(Machine& machine, uint64_t step) {
    const absl::Status saved = machine.Save(IdOf("r", step), static_cast<uint32_t>(10 * step));
    EXPECT_TRUE(saved.ok()) << saved;
  }

  bool Restart(Machine& machine) {
    const absl::Status started = machine.Start();
    EXPECT_TRUE(started.ok()) << started;
    if (!started.ok()) return false;
    if (protocol().resume != nullptr && !machine.kept_parts.empty()) {
      const absl::Status resumed = protocol().resume(machine);
      EXPECT_TRUE(resumed.ok()) << resumed;
      machine.kept_parts.clear();
    }
    EXPECT_EQ(machine.Oracle(), "");
    return true;
  }

  TemporaryFolder folder_;
};

TEST_P(FailedCalls, EachIsReportedOrSurvived) {
  Machine base(folder_.path() + "/base", protocol().memtables_bytes_max);
  ASSERT_TRUE(protocol().prepare(base).ok());
  base.Stop();
  const uint64_t seed = TestSetting("CKPT_CRASH_SEED", 1);
  const uint64_t every = Every(protocol());
  uint64_t points = 0;
  uint64_t passed = 0;
  bool reached = true;
  for (uint64_t number = 1 + seed % std::min<uint64_t>(every, 7); reached && !HasFailure();
       number += every) {
    SCOPED_TRACE(testing::Message() << "call " << number);
    ASSERT_LT(number, 10000u) << "the protocol does not end";
    reached = Fail(base, number);
    points += reached ? 1 : 0;
    passed += reached && !HasFailure() ? 1 : 0;
  }
  EXPECT_GT(points, 0u) << "too few calls for a protocol";
  std::cout << "failed calls: " << protocol().name << "/" << fault().name << ": " << passed
            << " of " << points << " (seed " << seed << ", every " << every << ")\n";
}

INSTANTIATE_TEST_SUITE_P(All, FailedCalls,
                         testing::Combine(testing::Range(size_t{0}, Protocols().size()),
                                          testing::Range(size_t{0}, std::size(kFaults))),
                         [](const auto& info) {
                           return std::string(Protocols()[std::get<0>(info.param)].name) +
                                  kFaults[std::get<1>(info.param)].name;
                         });

}  // namespace
}  // namespace ckpt::crash
