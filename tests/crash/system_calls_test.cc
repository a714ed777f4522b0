// The real daemon, killed before or after each system call by which it changes a file: of the data
// folder, of its index, of the memory tier. What the faulty disk of the crash points cannot count,
// the tmpfs and what adoption does with it, is counted here; what a power cut would lose besides
// is the crash points' affair.
//
// Each life that is to end so does all that a daemon can: it adopts what an earlier one had staged,
// gives up what lacks a rank, commits a save, moves a tag, replaces and deletes. The trainers live.
// The next daemon must start, and the oracle of the kill loop find nothing wrong.
//
//   CKPT_CRASH_EVERY=n   only every n-th call; 1: all of them
//   CKPT_CRASH_SEED=n    begins with another one, and with the other side of it
//   CKPT_CRASH_ROUNDS=n  so many times; with every call, each on its other side the next time
#include <signal.h>
#include <sys/wait.h>

#include <iostream>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "tests/crash/oracle.h"
#include "tests/fixtures/setting.h"
#include "tests/integration/integration_test.h"

namespace ckpt::testing {
namespace {

constexpr uint32_t kRanks = 2;
constexpr uint64_t kPartBytes = 40000;
constexpr size_t kForTheNext = 2;       // checkpoints for a life to delete
constexpr int kNoTracing = 126;         // what die_at_call exits with then
constexpr uint64_t kCallsMax = 100000;  // a daemon that does not come to rest
constexpr absl::Duration kLook = absl::Milliseconds(5);
constexpr absl::Duration kHang = absl::Seconds(60);
#ifdef CKPT_SANITIZED
constexpr uint64_t kEvery = 41;
#else
constexpr uint64_t kEvery = 11;
#endif

class SystemCalls : public IntegrationTest {
 protected:
  void SetUp() override {
    StartDaemon({.memory_budget = "64MiB", .grace = "100ms", .log_level = "info"});
    oracle_ = std::make_unique<Oracle>(&daemon(), &calls(), &history_);
    bystander_ = Connect();
  }

  // One life up to that call, and what must hold afterwards. False: it has less of them.
  void Die(const char* side, uint64_t number, bool& reached) {
    SCOPED_TRACE(::testing::Message() << side << " call " << number);
    history_.Note(absl::StrCat(side, " call ", number));
    ASSERT_NO_FATAL_FAILURE(Prepare());
    daemon().RunUnder({BuiltBinary("die_at_call"), side, absl::StrCat(number)});
    CKPT_ASSERT_OK(daemon().Spawn());
    const absl::Status lived = Live();
    // Who calls it hears of its death a moment before whoever waits for it.
    reached = Died();
    for (int looks = 0; !lived.ok() && !reached && looks < 1000; ++looks) {
      absl::SleepFor(kLook);
      reached = Died();
    }
    ASSERT_TRUE(reached || lived.ok()) << "it lives, and failed: " << lived;
    daemon().RunUnder({});
    if (!reached) {
      ASSERT_TRUE(daemon().Terminate().ok());  // waits for all of it, not for its tracer alone
    } else if (const int status = daemon().AwaitExit().value_or(0); status == kNoTracing) {
      GTEST_SKIP() << "processes cannot be traced here (ptrace, seccomp)";
    } else {
      ASSERT_EQ(status, 128 + SIGKILL) << "it ended by itself: " << daemon().Log();
    }
    CKPT_ASSERT_OK(daemon().Restart());
    CKPT_ASSERT_OK(calls().AwaitConnected());
    CKPT_ASSERT_OK(Settle());
    CKPT_ASSERT_OK(DeleteOldOnes(calls(), kKept + kForTheNext));
    CKPT_ASSERT_OK(oracle_->Check(*bystander_, number % 2 == 0));
  }

 private:
  // A daemon stages one checkpoint of all ranks and one that lacks a rank, and is killed.
  void Prepare() {
    CKPT_ASSERT_OK(daemon().Restart({"--persist-delay=1h"}));
    launch_ = Incarnation::TimeOrdered();
    staged_ = Begin(history_.NextStep());
    std::vector<SaveHandle> saves = Saves(staged_);
    for (SaveHandle& save : saves) CKPT_ASSERT_OK(save.AwaitStaged(kHang));
    history_.Staged(staged_.id);
    const Attempt incomplete = Begin(history_.NextStep());
    absl::StatusOr<SaveHandle> half =
        bystander_->Save(incomplete.id, MakeTestPart(incomplete.state(), 0, kRanks), {});
    ASSERT_TRUE(half.ok()) << half.status();
    CKPT_ASSERT_OK(half->AwaitStaged(kHang));
    daemon().Kill();
  }

  // All that a daemon can do; an error where it could not.
  absl::Status Live() {
    CKPT_RETURN_IF_ERROR(daemon().AwaitServing());
    DaemonCalls calls(daemon().socket());
    CKPT_RETURN_IF_ERROR(calls.AwaitCommitted(staged_.id, kHang));
    CKPT_RETURN_IF_ERROR(history_.SawCommitted(staged_.id).status());
    CKPT_RETURN_IF_ERROR(Save(Begin(history_.NextStep())));
    history_.AskTag("best", current_->id);
    CKPT_RETURN_IF_ERROR(calls.AddTag(current_->id, "best"));
    history_.TagAnswered("best", current_->id);
    launch_ = Incarnation::TimeOrdered();
    CKPT_RETURN_IF_ERROR(Save(Begin(staged_.id.step), {.if_exists = v1::IF_EXISTS_REPLACE}));
    CKPT_RETURN_IF_ERROR(DeleteOldOnes(calls, kKept));
    return oracle_->Check(*bystander_, false);
  }

  absl::Status DeleteOldOnes(DaemonCalls& calls, size_t kept) {
    std::vector<Attempt> there;
    for (const Attempt& attempt : history_.attempts()) {
      if (attempt.committed && !attempt.gone && !attempt.replaced) there.push_back(attempt);
    }
    for (size_t i = 0; i + kept < there.size(); ++i) {
      const CheckpointId& id = there[i].id;
      if (!history_.AskDelete(id)) continue;
      const absl::Status deleted = calls.Delete(id);
      CKPT_RETURN_IF_ERROR(history_.DeleteAnswered(id, there[i].delete_asked, deleted));
      if (!deleted.ok() && !absl::IsNotFound(deleted)) return deleted;
    }
    return absl::OkStatus();
  }

  Attempt Begin(uint64_t step) {
    const Attempt attempt{
        .id = {"team/killed", step, launch_}, .plan = {.part_bytes = kPartBytes}, .ranks = kRanks};
    history_.Begin(attempt);
    return attempt;
  }

  std::vector<SaveHandle> Saves(const Attempt& attempt, const SaveOptions& options = {}) {
    return StartSaves(attempt.id, attempt.state(), kRanks, options);
  }

  absl::Status Save(const Attempt& attempt, const SaveOptions& options = {}) {
    current_ = attempt;
    saves_ = Saves(attempt, options);
    for (SaveHandle& save : saves_) {
      CKPT_RETURN_IF_ERROR(
          UnlessItDies([&save](absl::Duration wait) { return save.AwaitStaged(wait); }));
    }
    history_.Staged(attempt.id);
    for (SaveHandle& save : saves_) {
      CKPT_RETURN_IF_ERROR(
          UnlessItDies([&save](absl::Duration wait) { return save.AwaitCommitted(wait); }));
    }
    CKPT_RETURN_IF_ERROR(history_.SawCommitted(attempt.id).status());
    saves_.clear();
    return absl::OkStatus();
  }

  // As AwaitStaged and AwaitCommitted, but hears of the daemon's death at once.
  absl::Status UnlessItDies(absl::FunctionRef<absl::Status(absl::Duration)> await) {
    for (const absl::Time hang = absl::Now() + kHang;;) {
      const absl::Status status = await(kLook);
      if (!absl::IsDeadlineExceeded(status) || absl::Now() > hang) return status;
      if (Died()) return absl::UnavailableError("the daemon has died");
    }
  }

  // The trainers live: with the next daemon a save that was under way goes on, or fails.
  absl::Status Settle() {
    bool staged = !saves_.empty();
    for (SaveHandle& save : saves_) {
      const absl::Status status = save.AwaitStaged(kHang);
      if (absl::IsDeadlineExceeded(status)) return status;
      staged = staged && status.ok();
    }
    if (staged) history_.Staged(current_->id);
    saves_.clear();
    return absl::OkStatus();
  }

  bool Died() {
    siginfo_t ended{};
    return daemon().pid() == 0 ||  // somebody has waited for it
           (waitid(P_PID, static_cast<id_t>(daemon().pid()), &ended, WEXITED | WNOHANG | WNOWAIT) ==
                0 &&
            ended.si_pid != 0);
  }

  ScratchFolder folder_;
  History history_{folder_ / "history", /*retention=*/false};
  std::unique_ptr<Oracle> oracle_;
  std::unique_ptr<Client> bystander_;
  Incarnation launch_;
  Attempt staged_;                  // by the daemon before
  std::optional<Attempt> current_;  // what is being saved
  std::vector<SaveHandle> saves_;
};

TEST_F(SystemCalls, TheDaemonMayDieAtEach) {
  const uint64_t first_seed = TestSetting("CKPT_CRASH_SEED", 1);
  const uint64_t rounds = TestSetting("CKPT_CRASH_ROUNDS", 1);
  const uint64_t every = TestSetting("CKPT_CRASH_EVERY", kEvery);
  uint64_t passed = 0;
  for (uint64_t seed = first_seed; seed < first_seed + rounds; ++seed) {
    bool reached = true;
    for (uint64_t number = 1 + seed % every; reached && number < kCallsMax; number += every) {
      const bool before = (number / every + seed) % 2 == 0;
      ASSERT_NO_FATAL_FAILURE(Die(before ? "before" : "after", number, reached));
      if (IsSkipped()) return;
      passed += reached ? 1 : 0;
    }
    EXPECT_FALSE(reached) << "it does not come to rest";
  }
  EXPECT_GT(passed, 0u);
  std::cout << "system calls: " << passed << " deaths, nothing lost (seed " << first_seed
            << ", rounds " << rounds << ", every " << every << ")\n";
}

}  // namespace
}  // namespace ckpt::testing
