// How a retention policy, and what it would do, looks to people and to programs.
#ifndef CKPT_CLIENT_CLI_RETENTION_RECORD_H_
#define CKPT_CLIENT_CLI_RETENTION_RECORD_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "ckpt/v1/retention.pb.h"
#include "client/cli/arguments.h"
#include "client/cli/output.h"
#include "client/cli/verb.h"

namespace ckpt::cli {

Json PolicyJson(const v1::RetentionPolicy& policy);
std::string SourceName(v1::RetentionSource source);  // RUN, FILE, FLAGS, NONE

void PrintPolicy(OutputFormat format, const std::string& run,
                 const v1::GetRetentionResponse& retention);

// --keep-last N and the other rules, and --keep-all.
std::vector<FlagSpec> PolicyFlags();
// `given`: whether there was any of them. INVALID_ARGUMENT names the flag.
absl::StatusOr<v1::RetentionPolicy> ParsePolicyFlags(const Arguments& arguments, bool& given);

// Asks what `policy` (null: the run's own) would do to the run now, and prints it.
absl::StatusOr<ExitCode> ShowPlan(VerbContext& context, const std::string& run,
                                  const v1::RetentionPolicy* policy);
// The same without printing. A run that is not there yet: nothing.
absl::StatusOr<v1::RetentionSummary> SummarizePlan(VerbContext& context, const std::string& run,
                                                   const v1::RetentionPolicy& policy);

}  // namespace ckpt::cli

#endif  // CKPT_CLIENT_CLI_RETENTION_RECORD_H_
