// ckptctl health
#include "client/cli/verb.h"
#include "common/status_macros.h"

namespace ckpt::cli {
namespace {

absl::StatusOr<ExitCode> ShowHealth(VerbContext& context) {
  CKPT_ASSIGN_OR_RETURN(const bool serving, context.connection.Serving());
  Json json;
  json[context.connection.remote() ? "address" : "socket"] = context.connection.peer();
  json["serving"] = serving;
  PrintRecord(context.format, json,
              {{context.connection.peer(), serving ? "SERVING" : "NOT SERVING"}});
  return serving ? kExitOk : kExitUnavailable;
}

}  // namespace

Verb Health() {
  return {
      .command = {.name = "health",
                  .summary = "Does the daemon serve? (grpc.health.v1)",
                  .details = "Exit code 0 when it serves, 4 when it doesn't or nobody answers."},
      .default_timeout = absl::Seconds(5),
      .run = ShowHealth};
}

}  // namespace ckpt::cli
