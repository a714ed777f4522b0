// PlanRestore, in order:
//
//   1. check the request; find its session
//   2. resolve the selector: `latest` waits until what is staged has settled; all ranks of a
//      restore group get one answer
//   3. send the header, then leaves and their pieces as the checkpoint's leaves are walked
//      (plan_leaves.h). Files are referenced, and their descriptors pushed over the session, before
//      the first piece that names them (plan_writer.h). A checkpoint deleted before its files were
//      referenced is NOT_FOUND; a file that is missing otherwise is DATA_LOSS where memory has no
//      copy of it.
//   4. the plan is open before the summary, which is the last message, is sent; until it is
//      released, its session ends or its lease runs out. If the stream breaks, it is released
//      then.
//
// Keys named exactly that are not there are NOT_FOUND before the header: a plan of the others would
// look like all that was asked for.
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/checkpoint_id.h"
#include "common/status_macros.h"
#include "server/rpc/checkpoint_info.h"
#include "server/rpc/leaf_merge.h"
#include "server/rpc/leaf_selection.h"
#include "server/rpc/plan_leaves.h"
#include "server/rpc/plan_writer.h"
#include "server/rpc/restore.h"

namespace ckpt {
namespace {

constexpr absl::Duration kSettleTimeoutDefault = absl::Minutes(10);
constexpr absl::Duration kSettleTimeoutMax = absl::Hours(24);
constexpr uint32_t kLeaseSecondsDefault = 60;
constexpr uint32_t kLeaseSecondsMax = 24 * 3600;

absl::StatusOr<absl::Duration> SettleTimeout(const v1::PlanRestoreRequest& request) {
  if (!request.has_settle_timeout()) return kSettleTimeoutDefault;
  const auto& proto = request.settle_timeout();
  const absl::Duration timeout = absl::Seconds(proto.seconds()) + absl::Nanoseconds(proto.nanos());
  if (timeout < absl::ZeroDuration() || timeout > kSettleTimeoutMax) {
    return absl::InvalidArgumentError(absl::StrCat("settle_timeout must be from 0 to ",
                                                   absl::FormatDuration(kSettleTimeoutMax),
                                                   ", got ", absl::FormatDuration(timeout)));
  }
  return timeout;
}

// One call of PlanRestore.
class Planning {
 public:
  Planning(Restore& restore, const v1::PlanRestoreRequest& request, Cancelled cancelled,
           SendTo<v1::PlanRestoreResponse> send)
      : restore_(restore), request_(request), cancelled_(cancelled), send_(send) {}

  absl::Status Run() {
    CKPT_RETURN_IF_ERROR(CheckRequest());
    CKPT_ASSIGN_OR_RETURN(const LeafSelection selection,
                          LeafSelection::Create(request_.selection()));
    CKPT_ASSIGN_OR_RETURN(const CheckpointRecord record, Resolve());
    CKPT_ASSIGN_OR_RETURN(const CheckpointUid uid, UidOf(record));
    const auto deleted = [&record] {
      return absl::NotFoundError(absl::StrCat(record.manifest.id().run(), "@",
                                              record.manifest.id().step(),
                                              " was deleted while it was being planned"));
    };
    absl::StatusOr<LeafMerge> opened = LeafMerge::Open(restore_.index, restore_.folder, record);
    if (absl::IsNotFound(opened.status())) return deleted();
    CKPT_RETURN_IF_ERROR(opened.status());
    LeafMerge& leaves = *opened;
    CKPT_RETURN_IF_ERROR(selection.CheckNamed({&leaves}));

    std::shared_ptr<OpenPlan> plan;
    if (!request_.leaves_only() && !request_.summary_only()) {
      plan = std::make_shared<OpenPlan>(restore_.folder, record.manifest.id());
    }
    v1::PlanRestoreResponse header;
    if (plan != nullptr) header.mutable_header()->set_plan_id(plan->id().bytes());
    *header.mutable_header()->mutable_checkpoint() =
        InfoOf(record, *restore_.memory, *restore_.live, restore_.finder->damage());
    if (!send_(header)) return CallerHasGone();

    v1::PlanRestoreResponse last;
    v1::PlanSummary& summary = *last.mutable_summary();
    const auto send = [this](const v1::PlanRestoreResponse& message) {
      return request_.summary_only() || send_(message);
    };
    PlanWriter writer(uid, plan.get(), restore_.memory, session_.get(), cancelled_, send);
    const absl::Status walked = PlanLeaves(selection, leaves, writer).Run(cancelled_, summary);
    if (absl::IsNotFound(walked)) return deleted();
    CKPT_RETURN_IF_ERROR(walked);
    CKPT_RETURN_IF_ERROR(writer.Flush());
    summary.set_bytes_from_memory(writer.bytes_from_memory());
    summary.set_bytes_from_disk(writer.bytes_from_disk());
    if (plan == nullptr) return send_(last) ? absl::OkStatus() : CallerHasGone();
    // Open before the last message: a caller may read, or release, as soon as it has that.
    const PlanId id = plan->id();
    CKPT_RETURN_IF_ERROR(restore_.plans->Add(std::move(plan), session_, lease_));
    if (!cancelled_() && send_(last)) return absl::OkStatus();
    restore_.plans->Release(id);
    return CallerHasGone();
  }

 private:
  absl::Status CheckRequest() {
    CKPT_RETURN_IF_ERROR(ValidateSelector(request_.selector()));
    CKPT_ASSIGN_OR_RETURN(settle_timeout_, SettleTimeout(request_));
    if (request_.lease_seconds() > kLeaseSecondsMax) {
      return absl::InvalidArgumentError(absl::StrCat(
          "lease_seconds must be at most ", kLeaseSecondsMax, ", got ", request_.lease_seconds()));
    }
    lease_ = absl::Seconds(request_.lease_seconds() == 0 ? kLeaseSecondsDefault
                                                         : request_.lease_seconds());
    if (!request_.session_token().empty()) {
      if (restore_.sessions != nullptr) {
        session_ = restore_.sessions->Find(request_.session_token());
      }
      if (session_ == nullptr) {
        return absl::UnauthenticatedError(
            "session_token is of no open session; connect to the session socket again");
      }
    }
    return absl::OkStatus();
  }

  absl::StatusOr<CheckpointRecord> ResolveNow() {
    const v1::Selector& selector = request_.selector();
    if (selector.has_latest() || selector.has_latest_valid()) {
      CKPT_RETURN_IF_ERROR(
          restore_.live->WaitSettled(selector.run(), absl::Now() + settle_timeout_, cancelled_));
    }
    return restore_.finder->Find(selector, *restore_.rights, cancelled_);
  }

  absl::StatusOr<CheckpointRecord> Resolve() {
    if (!request_.has_group()) return ResolveNow();
    return restore_.groups->Answer(
        request_.group(), request_.selector(), restore_.rights->name(),
        session_ != nullptr ? session_->token().bytes() : std::string(),
        [this] { return ResolveNow(); },
        [this](CheckpointUid uid) { return restore_.index->GetCheckpoint(uid); });
  }

  Restore& restore_;
  const v1::PlanRestoreRequest& request_;
  const Cancelled cancelled_;
  const SendTo<v1::PlanRestoreResponse> send_;
  std::shared_ptr<Session> session_;
  absl::Duration settle_timeout_;
  absl::Duration lease_;
};

}  // namespace

absl::Status PlanRestore(Restore& restore, const v1::PlanRestoreRequest& request,
                         Cancelled cancelled, SendTo<v1::PlanRestoreResponse> send) {
  return Planning(restore, request, cancelled, send).Run();
}

}  // namespace ckpt
