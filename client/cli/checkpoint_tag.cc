// ckptctl checkpoint tag RUN@STEP TAG... [--remove TAG]
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/checkpoint_record.h"
#include "client/cli/verb.h"
#include "common/checkpoint_id.h"
#include "common/quoted.h"
#include "common/status_macros.h"

namespace ckpt::cli {
namespace {

absl::StatusOr<ExitCode> TagCheckpoint(VerbContext& context) {
  const auto& positionals = context.arguments.positionals();
  v1::TagCheckpointRequest request;
  CKPT_ASSIGN_OR_RETURN(*request.mutable_selector(), ParseSelector(positionals[0]));
  for (size_t i = 1; i < positionals.size(); ++i) {
    CKPT_RETURN_IF_ERROR(ValidateTag(positionals[i]));
    request.add_add(positionals[i]);
  }
  for (const std::string& tag : context.arguments.All("remove")) {
    CKPT_RETURN_IF_ERROR(ValidateTag(tag));
    request.add_remove(tag);
  }
  if (request.add_size() + request.remove_size() == 0) {
    return absl::InvalidArgumentError("name at least one tag to set, or to --remove");
  }
  // `latest` or a tag may mean another one a moment later.
  v1::GetCheckpointRequest named;
  *named.mutable_selector() = request.selector();
  v1::GetCheckpointResponse found;
  CKPT_RETURN_IF_ERROR(context.connection.Call([&](grpc::ClientContext* call) {
    return context.connection.catalog().GetCheckpoint(call, named, &found);
  }));
  const v1::CheckpointId& id = found.checkpoint().id();
  // The call itself, which may be repeated, takes that for done already.
  const auto& held = found.checkpoint().tags();
  for (const std::string& tag : request.remove()) {
    if (std::find(held.begin(), held.end(), tag) == held.end()) {
      return absl::NotFoundError(absl::StrCat("no such tag ", Quoted(tag), " on ", NameOf(id)));
    }
  }
  *request.mutable_selector() = ExactSelector(id);
  v1::TagCheckpointResponse response;
  CKPT_RETURN_IF_ERROR(context.connection.Call([&](grpc::ClientContext* call) {
    return context.connection.catalog().TagCheckpoint(call, request, &response);
  }));
  const auto& tags = response.labels().tags();
  Json json;
  json["run"] = id.run();
  json["step"] = id.step();
  json["tags"] = std::vector<std::string>(tags.begin(), tags.end());
  PrintRecord(context.format, json,
              {{NameOf(id),
                tags.empty() ? "no tags" : "tagged " + absl::StrJoin(tags, ", ")}});
  return kExitOk;
}

}  // namespace

Verb CheckpointTag() {
  return {
      .command = {.name = "checkpoint tag",
                  .summary = "Set tags on a checkpoint, or take them off",
                  .positionals = {{.name = "RUN@STEP",
                                   .help = "or RUN@latest, RUN@latest-valid, RUN@TAG"},
                                  {.name = "TAG",
                                   .help = "letters, digits, '.', '_' and, not first, '-'",
                                   .count_min = 0,
                                   .count_max = 32}},
                  .flags = {{.name = "remove",
                             .value = "TAG",
                             .help = "take this tag off (may be repeated)",
                             .letter = 'r',
                             .repeated = true}},
                  .details = "A tag names one checkpoint of a run: setting it elsewhere moves it."},
      .run = TagCheckpoint};
}

}  // namespace ckpt::cli
