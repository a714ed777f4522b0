// ckptctl retention set RUN --keep-last N ..., retention unset RUN
#include "absl/strings/str_cat.h"
#include "client/cli/retention_record.h"
#include "client/cli/verb.h"
#include "common/checkpoint_id.h"
#include "common/retention_policy.h"
#include "common/status_macros.h"

namespace ckpt::cli {
namespace {

// What holds after the change.
absl::StatusOr<ExitCode> ChangePolicy(VerbContext& context,
                                      const v1::SetRetentionRequest& request) {
  v1::SetRetentionResponse changed;
  CKPT_RETURN_IF_ERROR(context.connection.Call([&](grpc::ClientContext* call) {
    return context.connection.retention().SetRetention(call, request, &changed);
  }));
  v1::GetRetentionRequest asked;
  asked.set_run(request.run());
  v1::GetRetentionResponse now;
  CKPT_RETURN_IF_ERROR(context.connection.Call([&](grpc::ClientContext* call) {
    return context.connection.retention().GetRetention(call, asked, &now);
  }));
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
  return ChangePolicy(context, request);
}

absl::StatusOr<ExitCode> UnsetPolicy(VerbContext& context) {
  v1::SetRetentionRequest request;
  request.set_run(context.arguments.positionals()[0]);
  CKPT_RETURN_IF_ERROR(ValidateRun(request.run()));
  return ChangePolicy(context, request);
}

}  // namespace

Verb RetentionSet() {
  Verb verb = {
      .command =
          {.name = "retention set",
           .summary = "Give a run a retention policy of its own",
           .positionals = {{.name = "RUN", .help = "a run's name; it need not exist yet"}},
           .flags = PolicyFlags(),
           .details =
               "The policy is in force at once, for what is there already too, and replaces "
               "the one before as\na whole. What any of --keep-last, --keep-every and "
               "--keep-best names is kept; what is beyond\n--max-bytes or --max-age goes "
               "nevertheless. Never deleted: the newest checkpoint, the newest\nthat is not known "
               "to be damaged, pinned and tagged ones, and what precedes a step that is\nstill being "
               "saved."},
      .run = SetPolicy};
  verb.command.flags.push_back(
      {.name = "dry-run", .help = "change nothing; show what it would keep and delete now",
       .letter = 'n'});
  return verb;
}

Verb RetentionUnset() {
  return {.command = {.name = "retention unset",
                      .summary = "Take a run's own policy away: ckptd's file and flags hold again",
                      .positionals = {{.name = "RUN", .help = "a run's name"}}},
          .run = UnsetPolicy};
}

}  // namespace ckpt::cli
