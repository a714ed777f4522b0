// ckptctl retention set RUN --keep-last N ..., retention unset RUN
#include "absl/strings/str_cat.h"
#include "client/cli/retention_record.h"
#include "client/cli/terminal.h"
#include "client/cli/verb.h"
#include "common/byte_size.h"
#include "common/checkpoint_id.h"
#include "common/retention_policy.h"
#include "common/status_macros.h"

namespace ckpt::cli {
namespace {

const FlagSpec kYes = {.name = "yes", .help = "don't ask", .letter = 'y'};

absl::StatusOr<v1::GetRetentionResponse> HoldingPolicyOf(VerbContext& context,
                                                        const std::string& run) {
  v1::GetRetentionRequest asked;
  asked.set_run(run);
  v1::GetRetentionResponse holding;
  CKPT_RETURN_IF_ERROR(context.connection.Call([&](grpc::ClientContext* call) {
    return context.connection.retention().GetRetention(call, asked, &holding);
  }));
  return holding;
}

// Somebody has to say so where `policy` would delete what is there.
absl::Status ConfirmDeletions(VerbContext& context, const std::string& run,
                              const v1::RetentionPolicy& policy) {
  if (context.arguments.Has("yes")) return absl::OkStatus();
  CKPT_ASSIGN_OR_RETURN(const v1::RetentionSummary plan, SummarizePlan(context, run, policy));
  if (plan.deleted() == 0) return absl::OkStatus();
  return Confirm(false, absl::StrCat("let `", PrintRetentionPolicy(policy), "` delete ",
                                     plan.deleted(), " of the ", plan.kept() + plan.deleted(),
                                     " checkpoints of ", run, " now (",
                                     PrintByteSize(plan.deleted_bytes()), ")"));
}

absl::StatusOr<ExitCode> ChangePolicy(VerbContext& context,
                                      const v1::SetRetentionRequest& request) {
  v1::SetRetentionResponse changed;
  CKPT_RETURN_IF_ERROR(context.connection.Call([&](grpc::ClientContext* call) {
    return context.connection.retention().SetRetention(call, request, &changed);
  }));
  CKPT_ASSIGN_OR_RETURN(const v1::GetRetentionResponse now,
                        HoldingPolicyOf(context, request.run()));
  PrintPolicy(context.format, request.run(), now);
  return kExitOk;
}

absl::StatusOr<ExitCode> SetPolicy(VerbContext& context) {
  v1::SetRetentionRequest request;
  request.set_run(context.arguments.positionals()[0]);
  CKPT_RETURN_IF_ERROR(ValidateRun(request.run()));
  bool given = false;
  CKPT_ASSIGN_OR_RETURN(*request.mutable_policy(), ParsePolicyFlags(context.arguments, given));
  if (!given) {
    return absl::InvalidArgumentError(
        "give at least one rule, such as --keep-last 3, or --keep-all");
  }
  if (context.arguments.Has("dry-run")) {
    return ShowPlan(context, request.run(), &request.policy());
  }
  CKPT_RETURN_IF_ERROR(ConfirmDeletions(context, request.run(), request.policy()));
  return ChangePolicy(context, request);
}

absl::StatusOr<ExitCode> UnsetPolicy(VerbContext& context) {
  v1::SetRetentionRequest request;
  request.set_run(context.arguments.positionals()[0]);
  CKPT_RETURN_IF_ERROR(ValidateRun(request.run()));
  CKPT_ASSIGN_OR_RETURN(const v1::GetRetentionResponse holding,
                        HoldingPolicyOf(context, request.run()));
  CKPT_RETURN_IF_ERROR(ConfirmDeletions(context, request.run(), holding.inherited()));
  return ChangePolicy(context, request);
}

}  // namespace

Verb RetentionSet() {
  Verb verb = {
      .command =
          {.name = "retention set",
           .summary = "Give a run a retention policy of its own (asks before it deletes)",
           .positionals = {{.name = "RUN", .help = "a run's name; it need not exist yet"}},
           .flags = PolicyFlags(),
           .details =
               "The policy is in force at once, for what is there already too, and replaces "
               "the one before as\na whole. What any of --keep-last, --keep-every and "
               "--keep-best names is kept; what is beyond\n--max-bytes or --max-age goes "
               "nevertheless. Never deleted: the newest checkpoint, the newest\nthat is not known "
               "to be damaged, pinned and tagged ones, and what precedes a step that is\nstill being "
               "saved. Where checkpoints would go at once, it asks; without a terminal nobody\ncan "
               "be asked, and --yes is needed (exit code 5)."},
      .run = SetPolicy};
  verb.command.flags.push_back(
      {.name = "dry-run", .help = "change nothing; show what it would keep and delete now",
       .letter = 'n'});
  verb.command.flags.push_back(kYes);
  return verb;
}

Verb RetentionUnset() {
  return {.command = {.name = "retention unset",
                      .summary = "Take a run's own policy away: ckptd's file and flags hold again",
                      .positionals = {{.name = "RUN", .help = "a run's name"}},
                      .flags = {kYes},
                      .details = "Asks where these would delete checkpoints at once."},
          .run = UnsetPolicy};
}

}  // namespace ckpt::cli
