// GetRetention and PlanRetention: which policy holds, and what it would do now.
#include <optional>
#include <utility>

#include "common/checkpoint_id.h"
#include "common/status_macros.h"
#include "server/rpc/retention_calls.h"

namespace ckpt {
namespace {

constexpr int kDecisionsPerMessage = 1000;

}  // namespace

absl::Status GetRetention(const Retention& retention, const v1::GetRetentionRequest& request,
                          v1::GetRetentionResponse& response) {
  CKPT_RETURN_IF_ERROR(ValidateRun(request.run()));
  CKPT_ASSIGN_OR_RETURN(const HoldingPolicy holding, retention.PolicyOf(request.run()));
  CKPT_ASSIGN_OR_RETURN(const bool awaits, retention.AwaitsConfirmation());
  *response.mutable_policy() = holding.policy;
  response.set_source(holding.source);
  response.set_where(holding.where);
  response.set_awaits_confirmation(awaits);
  *response.mutable_inherited() = retention.InheritedPolicyOf(request.run()).policy;
  return absl::OkStatus();
}

absl::Status PlanRetention(const Retention& retention, CheckpointFinder& finder,
                           const Rights& rights, const v1::PlanRetentionRequest& request,
                           SendTo<v1::PlanRetentionResponse> send) {
  CKPT_RETURN_IF_ERROR(ValidateRun(request.run()));
  std::optional<v1::RetentionPolicy> policy;
  if (request.has_policy()) policy = request.policy();
  CKPT_ASSIGN_OR_RETURN(const RetentionPlan plan, retention.Plan(request.run(), policy));
  if (plan.checkpoints.empty() && !finder.RunIsIndexed(request.run())) {
    return finder.RunNotFound(request.run(), rights);
  }
  v1::PlanRetentionResponse last;
  v1::RetentionSummary& summary = *last.mutable_summary();
  *summary.mutable_policy() = plan.holding.policy;
  summary.set_source(plan.holding.source);
  summary.set_where(plan.holding.where);
  summary.set_awaits_confirmation(plan.awaits_confirmation);
  v1::PlanRetentionResponse some;
  for (size_t i = 0; i < plan.checkpoints.size(); ++i) {
    const CheckpointFacts& facts = plan.checkpoints[i];
    const RetentionVerdict& verdict = plan.verdicts[i];
    v1::RetentionDecision& decision = *some.mutable_decisions()->add_decisions();
    *decision.mutable_id() =
        CheckpointId{request.run(), facts.step, facts.incarnation}.ToProto();
    decision.set_keep(verdict.keep);
    decision.set_rule(verdict.rule);
    decision.set_reason(verdict.reason);
    decision.set_data_bytes(facts.bytes);
    if (verdict.keep) {
      summary.set_kept(summary.kept() + 1);
      summary.set_kept_bytes(summary.kept_bytes() + facts.bytes);
    } else {
      summary.set_deleted(summary.deleted() + 1);
      summary.set_deleted_bytes(summary.deleted_bytes() + facts.bytes);
    }
    if (some.decisions().decisions_size() < kDecisionsPerMessage) continue;
    if (!send(some)) return CallerHasGone();
    some.Clear();
  }
  if (some.has_decisions() && !send(some)) return CallerHasGone();
  return send(last) ? absl::OkStatus() : CallerHasGone();
}

}  // namespace ckpt
