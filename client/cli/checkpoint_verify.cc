// ckptctl checkpoint verify RUN@STEP...
#include "absl/strings/str_cat.h"
#include "client/cli/checkpoint_record.h"
#include "client/cli/terminal.h"
#include "client/cli/verb.h"
#include "common/byte_size.h"
#include "common/checkpoint_id.h"
#include "common/status_macros.h"

namespace ckpt::cli {
namespace {

struct VerifyOutcome {
  v1::CheckpointId id;
  uint64_t bytes = 0;
  std::vector<std::string> damage;
};

absl::StatusOr<VerifyOutcome> VerifyOne(VerbContext& context, const std::string& name) {
  v1::VerifyCheckpointRequest request;
  CKPT_ASSIGN_OR_RETURN(*request.mutable_selector(), ParseSelector(name));
  ProgressBar bar(name);
  grpc::ClientContext call;
  context.connection.Prepare(call);
  const auto reader = context.connection.catalog().VerifyCheckpoint(&call, request);
  VerifyOutcome outcome;
  bool done = false;
  v1::VerifyCheckpointResponse response;
  while (reader->Read(&response)) {
    bar.Show(response.bytes_done(), response.bytes_total());
    if (response.has_id()) outcome.id = response.id();
    outcome.bytes = response.bytes_done();
    outcome.damage.insert(outcome.damage.end(), response.damage().begin(), response.damage().end());
    done = done || response.done();
  }
  CKPT_RETURN_IF_ERROR(context.connection.FromGrpc(reader->Finish(), &call));
  if (!done) return absl::InternalError("the daemon ended the verification before it was done");
  return outcome;
}

void AddOutcome(const VerbContext& context, const VerifyOutcome& outcome, RecordPrinter& printer) {
  Json json;
  json["run"] = outcome.id.run();
  json["step"] = outcome.id.step();
  json["bytes"] = outcome.bytes;
  json["valid"] = outcome.damage.empty();
  json["damage"] = outcome.damage;
  printer.Add(json, {NameOf(outcome.id), PrintByteSize(outcome.bytes),
                     outcome.damage.empty()
                         ? "valid"
                         : absl::StrCat("DAMAGED in ", outcome.damage.size(),
                                        outcome.damage.size() == 1 ? " place" : " places")});
  for (const std::string& damage : outcome.damage) {
    if (context.format == OutputFormat::kTable) printer.Add(Json(), {"", "", damage});
  }
}

absl::StatusOr<ExitCode> VerifyCheckpoints(VerbContext& context) {
  RecordPrinter printer(context.format, {{"CHECKPOINT"}, {"READ", true}, {"RESULT"}});
  bool any = false;
  bool damaged = false;
  absl::Status failed;
  for (const std::string& name : context.arguments.positionals()) {
    const absl::StatusOr<VerifyOutcome> outcome = VerifyOne(context, name);
    failed = outcome.status();
    if (!failed.ok()) break;
    any = true;
    damaged = damaged || !outcome->damage.empty();
    AddOutcome(context, *outcome, printer);
  }
  if (any) printer.Finish("");
  if (!damaged) return failed.ok() ? absl::StatusOr<ExitCode>(kExitOk) : failed;
  // The damage that was found weighs more than why the rest was not looked at.
  if (!failed.ok()) PrintError(failed);
  return kExitDamaged;
}

}  // namespace

Verb CheckpointVerify() {
  return {.command = {.name = "checkpoint verify",
                      .summary = "Read every byte on disk and check every hash",
                      .positionals = {{.name = "RUN@STEP",
                                       .help = "or RUN@latest, RUN@latest-valid, RUN@TAG",
                                       .count_max = 1000}},
                      .details = "Exit code 6 when anything is damaged: each line names file, key "
                                 "and offset."},
          .default_timeout = absl::InfiniteDuration(),
          .run = VerifyCheckpoints};
}

}  // namespace ckpt::cli
