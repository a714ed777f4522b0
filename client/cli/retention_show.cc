// ckptctl retention show RUN, retention plan RUN, retention confirm
#include "absl/strings/str_cat.h"
#include "client/cli/retention_record.h"
#include "client/cli/verb.h"
#include "common/checkpoint_id.h"
#include "common/retention_policy.h"
#include "common/status_macros.h"

namespace ckpt::cli {
namespace {

absl::StatusOr<ExitCode> ShowPolicy(VerbContext& context) {
  v1::GetRetentionRequest request;
  request.set_run(context.arguments.positionals()[0]);
  CKPT_RETURN_IF_ERROR(ValidateRun(request.run()));
  v1::GetRetentionResponse response;
  CKPT_RETURN_IF_ERROR(context.connection.Call([&](grpc::ClientContext* call) {
    return context.connection.retention().GetRetention(call, request, &response);
  }));
  PrintPolicy(context.format, request.run(), response);
  return kExitOk;
}

absl::StatusOr<ExitCode> PlanForRun(VerbContext& context) {
  const std::string& run = context.arguments.positionals()[0];
  CKPT_RETURN_IF_ERROR(ValidateRun(run));
  bool given = false;
  CKPT_ASSIGN_OR_RETURN(const v1::RetentionPolicy policy,
                        ParsePolicyFlags(context.arguments, given));
  return ShowPlan(context, run, given ? &policy : nullptr);
}

absl::StatusOr<ExitCode> ConfirmIndex(VerbContext& context) {
  v1::ConfirmRetentionResponse response;
  CKPT_RETURN_IF_ERROR(context.connection.Call([&](grpc::ClientContext* call) {
    return context.connection.retention().ConfirmRetention(call, {}, &response);
  }));
  Json json;
  json["awaited"] = response.awaited();
  PrintRecord(context.format, json,
              {{"retention", response.awaited() ? "on again" : "was on already"}});
  return kExitOk;
}

}  // namespace

Verb RetentionShow() {
  return {.command = {.name = "retention show",
                      .summary = "Which retention policy holds for a run, and who set it",
                      .positionals = {{.name = "RUN", .help = "a run's name"}}},
          .run = ShowPolicy};
}

Verb RetentionPlan() {
  return {
      .command = {.name = "retention plan",
                  .summary = "What retention would keep and delete now, and why; changes nothing",
                  .positionals = {{.name = "RUN", .help = "a run's name"}},
                  .flags = PolicyFlags(),
                  .details = "With rules: what they would do instead of the run's policy."},
      .run = PlanForRun};
}

Verb RetentionConfirm() {
  return {
      .command = {.name = "retention confirm",
                  .summary = "After the index was made anew, or policies have gone: let retention "
                             "delete again",
                  .details = "ckptd makes its index anew from the manifests when it is missing "
                             "(ckptutil rebuild-index), and\nnotices where the file of single "
                             "runs' policies has gone. Then nothing is deleted by any policy\n"
                             "until somebody has looked at what is listed, and set what should "
                             "hold, and says so."},
      .run = ConfirmIndex};
}

}  // namespace ckpt::cli
