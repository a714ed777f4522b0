#include "client/cli/checkpoint_record.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"

namespace ckpt::cli {

std::string StateName(v1::CheckpointState state) {
  if (!v1::CheckpointState_IsValid(state)) return absl::StrCat("STATE_", state);
  const std::string name = v1::CheckpointState_Name(state);
  return std::string(absl::StripPrefix(name, "CHECKPOINT_STATE_"));
}

absl::StatusOr<v1::CheckpointState> ParseState(absl::string_view text) {
  const std::string name = absl::AsciiStrToUpper(text);
  for (const v1::CheckpointState state :
       {v1::CHECKPOINT_STATE_STAGED, v1::CHECKPOINT_STATE_COMMITTED,
        v1::CHECKPOINT_STATE_REPLICATED}) {
    if (StateName(state) == name) return state;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--state must be staged, committed or replicated, not \"",
                   absl::Utf8SafeCEscape(text), "\""));
}

std::string NameOf(const v1::CheckpointId& id) { return absl::StrCat(id.run(), "@", id.step()); }

Json CheckpointJson(const v1::CheckpointInfo& info) {
  Json json;
  json["run"] = info.id().run();
  json["step"] = info.id().step();
  json["incarnation"] = absl::BytesToHexString(info.id().incarnation());
  json["uid"] = absl::BytesToHexString(info.checkpoint_uid());
  json["state"] = StateName(info.state());
  json["world_size"] = info.world_size();
  json["share"] = std::vector<uint32_t>(info.share().begin(), info.share().end());
  json["joined"] = std::vector<uint32_t>(info.joined().begin(), info.joined().end());
  json["parts_staged"] = info.parts_staged();
  json["parts_durable"] = info.parts_durable();
  json["data_bytes"] = info.data_bytes();
  json["shard_count"] = info.shard_count();
  json["in_memory"] = info.in_memory();
  json["tags"] = std::vector<std::string>(info.tags().begin(), info.tags().end());
  json["pinned"] = info.pinned();
  json["metrics"] = MetricsJson(info.metrics());
  json["begun_at"] = info.has_begun_at() ? Json(PrintTime(ToTime(info.begun_at()))) : Json();
  json["committed_at"] =
      info.has_committed_at() ? Json(PrintTime(ToTime(info.committed_at()))) : Json();
  json["durable_at"] = info.has_durable_at() ? Json(PrintTime(ToTime(info.durable_at()))) : Json();
  json["compared_step"] = info.has_compared_step() ? Json(info.compared_step()) : Json();
  json["identical_bytes"] = info.has_compared_step() ? Json(info.identical_bytes()) : Json();
  if (info.damaged_places() > 0) {
    json["damaged_places"] = info.damaged_places();
    json["damage"] = info.damage();
  }
  if (!info.abort_reason().empty()) json["abort_reason"] = info.abort_reason();
  return json;
}

Json MetricsJson(const google::protobuf::Map<std::string, double>& metrics) {
  Json json = Json::object();
  for (const auto& [name, value] : std::map<std::string, double>(metrics.begin(), metrics.end())) {
    json[name] = std::isfinite(value) ? Json(value) : Json(absl::StrCat(value));
  }
  return json;
}

std::string MetricsText(const google::protobuf::Map<std::string, double>& metrics) {
  const std::map<std::string, double> sorted(metrics.begin(), metrics.end());
  return absl::StrJoin(sorted, " ", absl::PairFormatter("="));
}

std::string StateText(const v1::CheckpointInfo& info) {
  const std::string name = StateName(info.state());
  if (info.state() == v1::CHECKPOINT_STATE_WRITING) {
    return absl::StrCat(name, " ", info.parts_staged(), "/", info.share_size());
  }
  if (info.state() == v1::CHECKPOINT_STATE_STAGED) {
    return absl::StrCat(name, " ", info.parts_durable(), "/", info.share_size(), " durable");
  }
  if (info.damaged_places() > 0) return absl::StrCat(name, " DAMAGED");
  return name;
}

std::string RanksText(const v1::CheckpointInfo& info) {
  const auto share = static_cast<uint32_t>(info.share_size());
  if (share == 0 || share == info.world_size()) return absl::StrCat(info.world_size());
  return absl::StrCat(share, " of ", info.world_size());
}

std::string AgeText(const v1::CheckpointInfo& info) {
  const bool committed = info.has_committed_at();
  if (!committed && !info.has_begun_at()) return "-";
  return PrintAge(absl::Now() - ToTime(committed ? info.committed_at() : info.begun_at()));
}

std::string PercentText(uint64_t part, uint64_t whole) {
  if (part >= whole) return "100.0 %";
  const double share = static_cast<double>(part) / static_cast<double>(whole);
  return absl::StrFormat("%.1f %%", std::min(99.9, std::floor(share * 1000) / 10));
}

v1::Selector ExactSelector(const v1::CheckpointId& id) {
  v1::Selector selector;
  selector.set_run(id.run());
  selector.set_step(id.step());
  selector.set_incarnation(id.incarnation());
  return selector;
}

}  // namespace ckpt::cli
