// How a checkpoint looks to people and to programs.
#ifndef CKPT_CLIENT_CLI_CHECKPOINT_RECORD_H_
#define CKPT_CLIENT_CLI_CHECKPOINT_RECORD_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "ckpt/v1/catalog.pb.h"
#include "ckpt/v1/checkpoint.pb.h"
#include "ckpt/v1/restore.pb.h"
#include "client/cli/output.h"

namespace ckpt::cli {

std::string StateName(v1::CheckpointState state);  // COMMITTED
// staged, committed or replicated; INVALID_ARGUMENT.
absl::StatusOr<v1::CheckpointState> ParseState(absl::string_view text);

std::string NameOf(const v1::CheckpointId& id);  // RUN@STEP
Json CheckpointJson(const v1::CheckpointInfo& info);
Json MetricsJson(const google::protobuf::Map<std::string, double>& metrics);
// "accuracy=0.5 loss=1.25"
std::string MetricsText(const google::protobuf::Map<std::string, double>& metrics);
// STATE, and how far it has come: "WRITING 2/4 ranks".
std::string StateText(const v1::CheckpointInfo& info);
// "4 ranks" or "2 of 4 ranks" where the share is smaller than the world.
std::string RanksText(const v1::CheckpointInfo& info);
std::string AgeText(const v1::CheckpointInfo& info);
// "93.2 %", rounded down: 100.0 % is all. Of nothing: all.
std::string PercentText(uint64_t part, uint64_t whole);

// A selector that means exactly this checkpoint, whatever is committed later.
v1::Selector ExactSelector(const v1::CheckpointId& id);

}  // namespace ckpt::cli

#endif  // CKPT_CLIENT_CLI_CHECKPOINT_RECORD_H_
