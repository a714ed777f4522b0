// ckptctl drain
#include "absl/strings/str_cat.h"
#include "client/cli/verb.h"
#include "common/status_macros.h"

namespace ckpt::cli {
namespace {

absl::StatusOr<ExitCode> DrainDaemon(VerbContext& context) {
  const bool resume = context.arguments.Has("resume");
  CKPT_ASSIGN_OR_RETURN(const absl::Duration deadline,
                        context.arguments.Duration("deadline", absl::Seconds(60)));
  v1::DrainRequest request;
  request.set_resume(resume);
  const int64_t nanoseconds = absl::ToInt64Nanoseconds(deadline);
  constexpr int64_t kNanosecondsPerSecond = 1000000000;
  request.mutable_deadline()->set_seconds(nanoseconds / kNanosecondsPerSecond);
  request.mutable_deadline()->set_nanos(static_cast<int32_t>(nanoseconds % kNanosecondsPerSecond));
  v1::DrainResponse response;
  CKPT_RETURN_IF_ERROR(context.connection.Call([&](grpc::ClientContext* call) {
    return context.connection.admin().Drain(call, request, &response);
  }));
  Json json;
  json["drained"] = response.drained();
  json["parts_left"] = response.parts_left();
  json["admitting"] = resume;
  const std::string text = resume ? "saves are admitted again"
                           : response.drained()
                               ? "drained: everything staged is durable, no saves are admitted"
                               : absl::StrCat(Counted(response.parts_left(), "part"),
                                              " not yet durable");
  PrintRecord(context.format, json, {{"drain", text}});
  return resume || response.drained() ? kExitOk : kExitTimeout;
}

}  // namespace

Verb Drain() {
  return {
      .command = {.name = "drain",
                  .summary = "Stop admitting saves, wait until what is staged is durable",
                  .flags = {{.name = "deadline",
                             .value = "TIME",
                             .help =
                                 "how long to wait (default 60s); exit code 7 when parts are left"},
                            {.name = "resume", .help = "end an earlier drain: admit saves again"}},
                  .details = "The daemon goes on serving restores and the catalogue. Nothing is "
                             "lost by draining;\n--resume undoes it."},
      .default_timeout = absl::InfiniteDuration(),
      .run = DrainDaemon};
}

}  // namespace ckpt::cli
