#include "server/rpc/checkpoint_info.h"

#include <string>

#include "common/checkpoint_id.h"
#include "google/protobuf/util/time_util.h"

namespace ckpt {
namespace {

// Attempts are named by time-ordered ids: the first 48 bits are milliseconds since the epoch.
void SetTime(const std::string& uid, google::protobuf::Timestamp* time) {
  int64_t milliseconds = 0;
  for (int i = 0; i < 6; ++i) milliseconds = milliseconds << 8 | static_cast<uint8_t>(uid[i]);
  time->set_seconds(milliseconds / 1000);
  time->set_nanos(static_cast<int32_t>(milliseconds % 1000) * 1'000'000);
}

}  // namespace

v1::CheckpointInfo InfoOf(const CheckpointRecord& record, const MemoryCopies& memory,
                          CheckpointView& live, const KnownDamage& damage) {
  const v1::CheckpointManifest& manifest = record.manifest;
  v1::CheckpointInfo info;
  *info.mutable_id() = manifest.id();
  info.set_checkpoint_uid(manifest.checkpoint_uid());
  info.set_state(v1::CHECKPOINT_STATE_COMMITTED);
  info.set_world_size(manifest.world_size());
  *info.mutable_share() = manifest.share();
  *info.mutable_joined() = manifest.share();
  info.set_data_bytes(record.data_bytes);
  info.set_shard_count(record.shard_count);
  *info.mutable_tags() = record.labels.tags();
  info.set_pinned(record.labels.pinned());
  *info.mutable_metrics() = record.labels.metrics();
  *info.mutable_committed_at() = manifest.committed_at();
  info.set_parts_staged(manifest.parts_size());
  info.set_parts_durable(manifest.parts_size());
  if (record.compared_step) {
    info.set_compared_step(*record.compared_step);
    info.set_identical_bytes(record.identical_bytes);
  }
  const absl::StatusOr<CheckpointUid> uid = UidOf(record);
  if (uid.ok()) {
    SetTime(manifest.checkpoint_uid(), info.mutable_begun_at());
    if (const auto known = damage.Find(*uid)) {
      info.set_damaged_places(known->places);
      info.set_damage(known->first);
    }
    info.set_in_memory(InMemory(record, *uid, memory));
    const absl::StatusOr<CheckpointId> id = CheckpointId::FromProto(manifest.id());
    const absl::Time durable_at = id.ok() ? live.DurableAt(*id, *uid) : absl::InfinitePast();
    if (durable_at > absl::InfinitePast()) {
      *info.mutable_durable_at() =
          google::protobuf::util::TimeUtil::NanosecondsToTimestamp(absl::ToUnixNanos(durable_at));
    }
  }
  return info;
}

bool InMemory(const CheckpointRecord& record, CheckpointUid uid, const MemoryCopies& memory) {
  for (const v1::PartReference& part : record.manifest.parts()) {
    if (!memory.Has(uid, part.rank())) return false;
  }
  return record.manifest.parts_size() > 0;
}

void CheckpointDeleted(const CheckpointRecord& record, MemoryCopies& memory, CheckpointView& live,
                       KnownDamage& damage) {
  const v1::CheckpointInfo info = InfoOf(record, memory, live, damage);
  if (const absl::StatusOr<CheckpointUid> uid = UidOf(record); uid.ok()) {
    memory.Drop(*uid);
    damage.Forget(*uid);
  }
  live.Announce(info, /*deleted=*/true);
}

absl::StatusOr<CheckpointUid> UidOf(const CheckpointRecord& record) {
  auto uid = CheckpointUid::FromBytes(record.manifest.checkpoint_uid(), "checkpoint_uid");
  if (!uid.ok()) return absl::InternalError(uid.status().message());
  return uid;
}

}  // namespace ckpt
