// Every call of the protocols fails once, without a crash: no room (ENOSPC) or a device that cannot
// (EIO; EINTR looks the same to who asks). The protocol's answer is to be believed: what it reports
// as committed is, what it reports as failed is not there. The process lives and its next save
// commits; and after a power cut the oracle finds nothing wrong.
//
//   CKPT_CRASH_EVERY=n, CKPT_CRASH_SEED=n  as for crash_points_test.cc
#include <algorithm>
#include <iostream>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "tests/crash/protocols.h"

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
    EXPECT_TRUE(machine.Start().ok());
    FaultyFileSystem& disk = machine.disk();
    disk.FailAt(disk.operations() + number, absl::Status(fault().code, "told to fail"));
    const absl::Status outcome = protocol().run(machine);
    const auto failed = disk.failed();
    EXPECT_TRUE(failed.has_value() || outcome.ok()) << outcome;
    disk.Restart();  // nothing fails any more; the process goes on
    const absl::Status saved = machine.Save(IdOf("r", 7), 70);
    EXPECT_TRUE(saved.ok()) << saved;
    machine.Stop();
    if (failed.has_value() && failed->call == Call::kSync) {
      // Given up: its one sync in life was that one.
      EXPECT_TRUE(absl::StrContains(failed->path, "/index/") ||
                  disk.calls(Call::kSync, failed->path) == 1)
          << "synced again after a failure: " << failed->path;
    }
    disk.PowerLoss();
    const absl::Status started = machine.Start();
    EXPECT_TRUE(started.ok()) << started;
    if (!started.ok()) return false;
    EXPECT_EQ(machine.Oracle(), "");
    return failed.has_value();
  }

  TemporaryFolder folder_;
};

TEST_P(FailedCalls, EachIsReportedOrSurvived) {
  Machine base(folder_.path() + "/base", protocol().memtables_bytes_max);
  ASSERT_TRUE(protocol().prepare(base).ok());
  base.Stop();
  const uint64_t seed = Setting("CKPT_CRASH_SEED", 1);
  const uint64_t every = Every(protocol());
  uint64_t points = 0;
  uint64_t passed = 0;
  bool reached = true;
  for (uint64_t number = 1 + seed % std::min<uint64_t>(every, 7); reached && !HasFailure(); number += every) {
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

std::vector<size_t> RunningOnes() {
  std::vector<size_t> found;
  for (size_t i = 0; i < Protocols().size(); ++i) {
    if (Protocols()[i].running) found.push_back(i);
  }
  return found;
}

INSTANTIATE_TEST_SUITE_P(All, FailedCalls,
                         testing::Combine(testing::ValuesIn(RunningOnes()),
                                          testing::Range(size_t{0}, std::size(kFaults))),
                         [](const auto& info) {
                           return std::string(Protocols()[std::get<0>(info.param)].name) +
                                  kFaults[std::get<1>(info.param)].name;
                         });

}  // namespace
}  // namespace ckpt::crash
