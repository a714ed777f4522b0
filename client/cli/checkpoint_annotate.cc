// ckptctl checkpoint pin|unpin RUN@STEP, checkpoint annotate RUN@STEP [METRIC=VALUE...]
#include <cmath>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "client/cli/checkpoint_record.h"
#include "client/cli/verb.h"
#include "common/checkpoint_id.h"
#include "common/quoted.h"
#include "common/retention_policy.h"
#include "common/status_macros.h"

namespace ckpt::cli {
namespace {

const PositionalSpec kCheckpoint = {.name = "RUN@STEP",
                                    .help = "or RUN@latest, RUN@latest-valid, RUN@TAG"};

// The request's selector is set here: to exactly what the name means now.
absl::StatusOr<ExitCode> Annotate(VerbContext& context, v1::AnnotateCheckpointRequest request) {
  v1::GetCheckpointRequest named;
  CKPT_ASSIGN_OR_RETURN(*named.mutable_selector(),
                        ParseSelector(context.arguments.positionals()[0]));
  v1::GetCheckpointResponse found;
  CKPT_RETURN_IF_ERROR(context.connection.Call([&](grpc::ClientContext* call) {
    return context.connection.catalog().GetCheckpoint(call, named, &found);
  }));
  const v1::CheckpointId& id = found.checkpoint().id();
  const auto& held = found.checkpoint().metrics();
  for (const std::string& name : request.remove_metrics()) {
    if (!held.contains(name)) {
      return absl::NotFoundError(absl::StrCat("no such metric ", Quoted(name), " on ", NameOf(id)));
    }
  }
  *request.mutable_selector() = ExactSelector(id);
  v1::AnnotateCheckpointResponse response;
  CKPT_RETURN_IF_ERROR(context.connection.Call([&](grpc::ClientContext* call) {
    return context.connection.catalog().AnnotateCheckpoint(call, request, &response);
  }));
  const v1::Labels& labels = response.labels();
  Json json;
  json["run"] = id.run();
  json["step"] = id.step();
  json["pinned"] = labels.pinned();
  json["metrics"] = MetricsJson(labels.metrics());
  json["note"] = labels.note();
  std::string text = labels.pinned() ? "pinned" : "not pinned";
  if (!labels.metrics().empty()) absl::StrAppend(&text, "; ", MetricsText(labels.metrics()));
  if (!labels.note().empty()) absl::StrAppend(&text, "; ", labels.note());
  PrintRecord(context.format, json, {{NameOf(id), text}});
  return kExitOk;
}

absl::StatusOr<ExitCode> Pin(VerbContext& context) {
  v1::AnnotateCheckpointRequest request;
  request.set_pinned(true);
  return Annotate(context, std::move(request));
}

absl::StatusOr<ExitCode> Unpin(VerbContext& context) {
  v1::AnnotateCheckpointRequest request;
  request.set_pinned(false);
  return Annotate(context, std::move(request));
}

absl::StatusOr<ExitCode> AnnotateWords(VerbContext& context) {
  v1::AnnotateCheckpointRequest request;
  const auto& positionals = context.arguments.positionals();
  for (size_t i = 1; i < positionals.size(); ++i) {
    const std::string& word = positionals[i];
    const size_t equals = word.find('=');
    double value = 0;
    if (equals == std::string::npos || !absl::SimpleAtod(word.substr(equals + 1), &value) ||
        std::isnan(value) ||
        (std::isinf(value) && absl::ascii_isdigit(static_cast<unsigned char>(word.back())))) {
      return absl::InvalidArgumentError(
          absl::StrCat("expected METRIC=NUMBER, such as eval/loss=0.25, got ", Quoted(word)));
    }
    CKPT_RETURN_IF_ERROR(ValidateMetricName(word.substr(0, equals)));
    (*request.mutable_set_metrics())[word.substr(0, equals)] = value;
  }
  for (const std::string& name : context.arguments.All("remove")) {
    CKPT_RETURN_IF_ERROR(ValidateMetricName(name));
    request.add_remove_metrics(name);
  }
  if (context.arguments.Has("note")) request.set_note(context.arguments.Get("note"));
  if (request.set_metrics().empty() && request.remove_metrics().empty() && !request.has_note()) {
    return absl::InvalidArgumentError("give METRIC=NUMBER, --remove METRIC or --note TEXT");
  }
  return Annotate(context, std::move(request));
}

}  // namespace

Verb CheckpointPin() {
  return {.command = {.name = "checkpoint pin",
                      .summary = "Pin a checkpoint: nothing deletes it, no policy and no rm",
                      .positionals = {kCheckpoint}},
          .run = Pin};
}

Verb CheckpointUnpin() {
  return {.command = {.name = "checkpoint unpin",
                      .summary = "Take the pin off",
                      .positionals = {kCheckpoint}},
          .run = Unpin};
}

Verb CheckpointAnnotate() {
  return {.command = {.name = "checkpoint annotate",
                      .summary = "Attach metrics and a note to a checkpoint",
                      .positionals = {kCheckpoint,
                                      {.name = "METRIC=NUMBER",
                                       .help = "such as eval/loss=0.25",
                                       .count_min = 0,
                                       .count_max = 64}},
                      .flags = {{.name = "remove",
                                 .value = "METRIC",
                                 .help = "take this metric off (may be repeated)",
                                 .letter = 'r',
                                 .repeated = true},
                                {.name = "note",
                                 .value = "TEXT",
                                 .help = "a line for people; empty: take it off"}},
                      .details = "What is not named stays as it is. Metrics are what the retention "
                                 "rule keep-best compares."},
          .run = AnnotateWords};
}

}  // namespace ckpt::cli
