#include "tests/crash/bystanders.h"

#include <random>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "tests/crash/job.h"

namespace ckpt::testing {
namespace {

constexpr absl::Duration kPause = absl::Milliseconds(5);  // so that they leave the rest some time

// What a caller has to expect of a daemon that is killed, restarted, and has checkpoints deleted.
bool MayBe(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsNotFound(status) || absl::IsCancelled(status) ||
         absl::IsDeadlineExceeded(status);
}

absl::Status RestoreOnce(Client& client, History& history, const RestoreOptions& options) {
  CKPT_ASSIGN_OR_RETURN(const v1::Selector latest, ParseSelector(absl::StrCat(kRun, "@latest")));
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<RestorePlan> plan,
                        client.PlanRestore(latest, options));
  CKPT_ASSIGN_OR_RETURN(const CheckpointId id, CheckpointId::FromProto(plan->checkpoint().id()));
  CKPT_ASSIGN_OR_RETURN(const Attempt attempt, history.SawCommitted(id));
  const absl::Status restored = CheckRestoredWhole(*plan, attempt.state());
  return restored.ok() ? restored
                       : absl::Status(restored.code(),
                                      absl::StrCat("restoring ", id.ToString(), " meanwhile: ",
                                                   restored.message()));
}

}  // namespace

absl::Status RestoreNewest(Client& client, History& history, bool by_stream,
                           const std::atomic<bool>& stop, uint64_t& restored) {
  while (!stop) {
    const uint64_t power_cuts = history.power_cuts();
    const absl::Status status = RestoreOnce(
        client, history, {.settle_timeout = absl::Seconds(1), .stream = by_stream});
    // It reads the files itself, and would have died with the power.
    const bool outlived_its_machine = history.power_cuts() != power_cuts;
    if (!status.ok() && !MayBe(status) && !outlived_its_machine) return status;
    restored += status.ok() ? 1 : 0;
    absl::SleepFor(kPause);
  }
  return absl::OkStatus();
}

absl::Status Operate(DaemonCalls& calls, History& history, uint64_t seed,
                     const std::atomic<bool>& stop, Operated& operated) {
  std::mt19937_64 random(seed);
  for (; !stop; absl::SleepFor(kPause)) {
    const absl::StatusOr<std::vector<v1::CheckpointInfo>> listed = calls.List(kRun);
    if (!listed.ok()) {
      if (!MayBe(listed.status())) return listed.status();
      continue;
    }
    size_t committed = 0;
    for (const v1::CheckpointInfo& info : *listed) {
      if (stop) break;
      if (info.state() != v1::CHECKPOINT_STATE_COMMITTED) continue;
      CKPT_ASSIGN_OR_RETURN(const CheckpointId id, CheckpointId::FromProto(info.id()));
      CKPT_ASSIGN_OR_RETURN(const Attempt attempt, history.SawCommitted(id));
      ++committed;
      if (!attempt.delete_asked && random() % 16 == 0) {
        const std::string tag = random() % 2 == 0 ? "best" : "release-1";
        history.AskTag(tag, id);
        const absl::Status status = calls.AddTag(id, tag);
        if (!status.ok() && !MayBe(status)) return status;
        if (status.ok()) history.TagAnswered(tag, id);
        operated.tagged += status.ok() ? 1 : 0;
      }
      if (history.retention() || committed <= kKept || !history.AskDelete(id)) continue;
      const absl::Status status = calls.Delete(id);
      if (!status.ok() && !MayBe(status)) return status;
      CKPT_RETURN_IF_ERROR(history.DeleteAnswered(id, attempt.delete_asked, status));
      operated.deleted += status.ok() ? 1 : 0;
    }
  }
  return absl::OkStatus();
}

}  // namespace ckpt::testing
