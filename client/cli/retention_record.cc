#include "client/cli/retention_record.h"

#include <cstdio>

#include "absl/functional/function_ref.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "client/cli/checkpoint_record.h"
#include "common/byte_size.h"
#include "common/retention_policy.h"
#include "common/status_macros.h"

namespace ckpt::cli {
namespace {

constexpr char kKeepAll[] = "keep-all";

Json DecisionJson(const v1::RetentionDecision& decision) {
  Json json;
  json["run"] = decision.id().run();
  json["step"] = decision.id().step();
  json["incarnation"] = absl::BytesToHexString(decision.id().incarnation());
  json["keep"] = decision.keep();
  json["rule"] = decision.rule();
  json["reason"] = decision.reason();
  json["data_bytes"] = decision.data_bytes();
  return json;
}

Json SummaryJson(const v1::RetentionSummary& summary) {
  Json json;
  json["policy"] = PolicyJson(summary.policy());
  json["awaits_confirmation"] = summary.awaits_confirmation();
  json["kept"] = summary.kept();
  json["kept_bytes"] = summary.kept_bytes();
  json["deleted"] = summary.deleted();
  json["deleted_bytes"] = summary.deleted_bytes();
  return json;
}

std::string SummaryText(const v1::RetentionSummary& summary) {
  std::string text = absl::StrCat(
      "policy: ", Printable(PrintRetentionPolicy(summary.policy())), " (",
      Printable(summary.where()), ")\n",
      "kept: ", summary.kept(), ", ", PrintByteSize(summary.kept_bytes()),
      "; to be deleted: ", summary.deleted(), ", ", PrintByteSize(summary.deleted_bytes()), "\n");
  if (summary.awaits_confirmation()) {
    absl::StrAppend(
        &text,
        "nothing is deleted yet: the index was made anew, or the policies of single runs have "
        "gone; look at the list, then `ckptctl retention confirm`\n");
  }
  return text;
}

absl::StatusOr<v1::RetentionSummary> ReadPlan(
    VerbContext& context, const std::string& run, const v1::RetentionPolicy* policy,
    absl::FunctionRef<void(const v1::RetentionDecision&)> take) {
  v1::PlanRetentionRequest request;
  request.set_run(run);
  if (policy != nullptr) *request.mutable_policy() = *policy;
  grpc::ClientContext call;
  context.connection.Prepare(call);
  const auto reader = context.connection.retention().PlanRetention(&call, request);
  v1::PlanRetentionResponse response;
  v1::RetentionSummary summary;
  while (reader->Read(&response)) {
    if (response.has_summary()) summary = response.summary();
    for (const v1::RetentionDecision& decision : response.decisions().decisions()) take(decision);
  }
  CKPT_RETURN_IF_ERROR(context.connection.FromGrpc(reader->Finish(), &call));
  return summary;
}

}  // namespace

Json PolicyJson(const v1::RetentionPolicy& policy) {
  Json json = Json::object();
  for (const auto& [rule, value] : PrintRetentionRules(policy)) json[rule] = value;
  return json;
}

std::string SourceName(v1::RetentionSource source) {
  if (!v1::RetentionSource_IsValid(source)) return absl::StrCat("SOURCE_", source);
  const std::string name = v1::RetentionSource_Name(source);
  return std::string(absl::StripPrefix(name, "RETENTION_SOURCE_"));
}

void PrintPolicy(OutputFormat format, const std::string& run,
                 const v1::GetRetentionResponse& retention) {
  Json json;
  json["run"] = run;
  json["policy"] = PolicyJson(retention.policy());
  json["source"] = SourceName(retention.source());
  json["where"] = retention.where();
  json["awaits_confirmation"] = retention.awaits_confirmation();
  std::vector<std::pair<std::string, std::string>> lines = {
      {"run", run},
      {"policy", PrintRetentionPolicy(retention.policy())},
      {"source", retention.where()}};
  if (retention.awaits_confirmation()) {
    lines.emplace_back(
        "state", "OFF: the index was made anew, or policies have gone (ckptctl retention confirm)");
  }
  PrintRecord(format, json, lines);
}

std::vector<FlagSpec> PolicyFlags() {
  std::vector<FlagSpec> flags;
  for (const RetentionRule& rule : RetentionRules()) {
    flags.push_back({.name = rule.name, .value = rule.value, .help = rule.help});
  }
  flags.push_back({.name = kKeepAll, .help = "no rule at all: delete nothing"});
  return flags;
}

absl::StatusOr<v1::RetentionPolicy> ParsePolicyFlags(const Arguments& arguments, bool& given) {
  v1::RetentionPolicy policy;
  bool any = false;
  for (const RetentionRule& rule : RetentionRules()) {
    if (!arguments.Has(rule.name)) continue;
    any = true;
    const absl::Status set = SetRetentionRule(rule.name, arguments.Get(rule.name), policy);
    if (!set.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("--", rule.name, ": ", set.message()));
    }
  }
  if (any && arguments.Has(kKeepAll)) {
    return absl::InvalidArgumentError("--keep-all stands alone: it says that there is no rule");
  }
  given = any || arguments.Has(kKeepAll);
  return policy;
}

absl::StatusOr<ExitCode> ShowPlan(VerbContext& context, const std::string& run,
                                  const v1::RetentionPolicy* policy) {
  Json decisions = Json::array();
  RecordPrinter printer(context.format == OutputFormat::kJson ? OutputFormat::kTable
                                                              : context.format,
                        {{"STEP", true}, {"DATA", true}, {"FATE"}, {"WHY"}});
  const auto print = [&](const v1::RetentionDecision& decision) {
    const Json json = DecisionJson(decision);
    if (context.format == OutputFormat::kJson) {
      decisions.push_back(json);
      return;
    }
    printer.Add(json, {absl::StrCat(decision.id().step()), PrintByteSize(decision.data_bytes()),
                       decision.keep() ? "keep" : "DELETE", decision.reason()});
  };
  CKPT_ASSIGN_OR_RETURN(const v1::RetentionSummary summary,
                        ReadPlan(context, run, policy, print));
  if (context.format == OutputFormat::kJson) {
    Json json = SummaryJson(summary);
    json["decisions"] = std::move(decisions);
    PrintRecord(context.format, json, {});
    return kExitOk;
  }
  printer.Finish("the run has no committed checkpoints");
  if (context.format == OutputFormat::kTable) {
    std::fputs(SummaryText(summary).c_str(), stdout);
  }
  return kExitOk;
}

absl::StatusOr<v1::RetentionSummary> SummarizePlan(VerbContext& context, const std::string& run,
                                                   const v1::RetentionPolicy& policy) {
  auto summary = ReadPlan(context, run, &policy, [](const v1::RetentionDecision&) {});
  if (absl::IsNotFound(summary.status())) return v1::RetentionSummary();
  return summary;
}

}  // namespace ckpt::cli
