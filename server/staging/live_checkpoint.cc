#include "server/staging/live_checkpoint.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "google/protobuf/util/time_util.h"

namespace ckpt {
namespace {

constexpr size_t kRanksNamedMax = 10;

google::protobuf::Timestamp ToProto(absl::Time time) {
  return google::protobuf::util::TimeUtil::NanosecondsToTimestamp(absl::ToUnixNanos(time));
}

}  // namespace

std::string PrintRanks(const std::vector<uint32_t>& ranks) {
  if (ranks.size() == 1) return absl::StrCat("rank ", ranks[0]);
  std::string text = "ranks ";
  for (size_t i = 0; i < ranks.size(); ++i) {
    if (i == kRanksNamedMax) return absl::StrCat(text, " and ", ranks.size() - i, " more");
    const bool last = i + 1 == ranks.size();
    absl::StrAppend(&text, i == 0 ? "" : (last ? " and " : ", "), ranks[i]);
  }
  return text;
}

v1::CheckpointInfo MakeInfo(const LiveCheckpoint& checkpoint) {
  v1::CheckpointInfo info;
  *info.mutable_id() = checkpoint.id.ToProto();
  info.set_checkpoint_uid(checkpoint.uid.bytes());
  info.set_state(checkpoint.state);
  info.set_world_size(checkpoint.world_size);
  info.mutable_share()->Add(checkpoint.share.begin(), checkpoint.share.end());
  if (checkpoint.state == v1::CHECKPOINT_STATE_ABORTED) {
    info.set_abort_reason(std::string(checkpoint.aborted.message()));
  }
  *info.mutable_begun_at() = ToProto(checkpoint.begun_at);
  if (checkpoint.state == v1::CHECKPOINT_STATE_COMMITTED) {
    *info.mutable_committed_at() = ToProto(checkpoint.committed_at);
  }
  uint64_t data_bytes = 0;
  uint64_t shards = 0;
  for (const auto& [rank, part] : checkpoint.parts) {
    info.add_joined(rank);
    if (part->layout == nullptr) continue;
    data_bytes += part->layout->data_bytes();
    shards += part->layout->shards().size();
  }
  info.set_data_bytes(data_bytes);
  info.set_shard_count(shards);
  info.set_parts_staged(checkpoint.CountStaged());
  info.set_parts_durable(checkpoint.CountDurable());
  if (const absl::Time durable_at = checkpoint.DurableAt(); durable_at > absl::InfinitePast()) {
    *info.mutable_durable_at() = ToProto(durable_at);
  }
  return info;
}

}  // namespace ckpt
