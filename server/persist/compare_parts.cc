#include "server/persist/compare_parts.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "common/status_macros.h"
#include "server/observe/log.h"

namespace ckpt {
namespace {

bool AllIdentical(uint64_t identical_bytes, uint64_t data_bytes) {
  return data_bytes > 0 && identical_bytes == data_bytes;
}

// Bytes in blocks whose hashes are equal; both manifests have this layout. nullopt: they have not.
std::optional<uint64_t> IdenticalBytes(const v1::PartManifest& before,
                                       const v1::PartManifest& after, const PartLayout& layout) {
  const auto& old_hashes = before.block_hashes();
  const auto& new_hashes = after.block_hashes();
  const auto blocks = static_cast<uint64_t>(new_hashes.size());
  const uint64_t block_bytes = after.block_bytes();
  if (blocks != layout.block_count() || old_hashes.size() != new_hashes.size() ||
      block_bytes == 0 || before.block_bytes() != block_bytes) {
    return std::nullopt;
  }
  if (std::equal(old_hashes.begin(), old_hashes.end(), new_hashes.begin())) {
    return layout.data_bytes();
  }
  uint64_t identical = 0;
  for (const PartLayout::ShardPlace& shard : layout.shards()) {
    auto block = static_cast<int>(shard.first_block);
    for (uint64_t offset = 0; offset < shard.length; offset += block_bytes, ++block) {
      if (old_hashes[block] != new_hashes[block]) continue;
      identical += std::min(block_bytes, shard.length - offset);
    }
  }
  return identical;
}

}  // namespace

absl::StatusOr<std::optional<PartsComparison>> CompareParts(Index* index,
                                                            const CheckpointRecord& record) {
  const v1::CheckpointManifest& manifest = record.manifest;
  if (manifest.id().step() == 0) return std::nullopt;
  CKPT_ASSIGN_OR_RETURN(const CheckpointUid uid,
                        CheckpointUid::FromBytes(manifest.checkpoint_uid(), "checkpoint_uid"));
  const absl::StatusOr<CheckpointRecord> before =
      index->FindLatest(manifest.id().run(), manifest.id().step() - 1, /*whole_only=*/false);
  if (absl::IsNotFound(before.status())) return std::nullopt;
  CKPT_RETURN_IF_ERROR(before.status());
  CKPT_ASSIGN_OR_RETURN(
      const CheckpointUid uid_before,
      CheckpointUid::FromBytes(before->manifest.checkpoint_uid(), "checkpoint_uid"));
  if (!std::equal(manifest.share().begin(), manifest.share().end(),
                  before->manifest.share().begin(), before->manifest.share().end())) {
    return std::nullopt;
  }
  PartsComparison comparison{.step = before->manifest.id().step()};
  for (const uint32_t rank : manifest.share()) {
    CKPT_ASSIGN_OR_RETURN(const v1::PartManifest old_part, index->GetPartHead(uid_before, rank));
    CKPT_ASSIGN_OR_RETURN(const v1::PartManifest new_part, index->GetPartHead(uid, rank));
    if (old_part.layout_digest() != new_part.layout_digest()) return std::nullopt;
    const std::shared_ptr<const PartLayout> layout = index->FindLayout(new_part.layout_digest());
    if (layout == nullptr) return std::nullopt;
    const std::optional<uint64_t> identical = IdenticalBytes(old_part, new_part, *layout);
    if (!identical) return std::nullopt;
    comparison.identical_bytes += *identical;
  }
  comparison.all = AllIdentical(comparison.identical_bytes, record.data_bytes);
  comparison.all_before = before->compared_step.has_value() &&
                          AllIdentical(before->identical_bytes, before->data_bytes);
  return comparison;
}

void CompareWithPrevious(Index* index, const CheckpointRecord& record) {
  const std::string& run = record.manifest.id().run();
  const uint64_t step = record.manifest.id().step();
  const absl::StatusOr<std::optional<PartsComparison>> comparison = CompareParts(index, record);
  absl::Status status = comparison.status();
  if (status.ok()) {
    if (!comparison->has_value()) return;
    const CheckpointUid uid =
        CheckpointUid::FromBytes(record.manifest.checkpoint_uid(), "checkpoint_uid").value();
    status = index->PutComparison(uid, (*comparison)->step, (*comparison)->identical_bytes);
  }
  if (absl::IsNotFound(status)) return;  // deleted meanwhile
  if (!status.ok()) {
    observe::Warning("checkpoint not compared with the one before it",
                     {{"run", run}, {"step", step}, {"error", status}});
    return;
  }
  const PartsComparison& found = **comparison;
  // Rounded down: 100 says every byte.
  const double percent =
      record.data_bytes == 0
          ? 100.0
          : std::floor(1000.0 * static_cast<double>(found.identical_bytes) /
                       static_cast<double>(record.data_bytes)) / 10;
  const bool again = found.all && found.all_before;
  observe::Event(again ? observe::Severity::kWarning : observe::Severity::kInfo,
                 again ? "checkpoint has the same tensors as the two before it: does the job train?"
                       : "checkpoint compared with the one before it",
                 {{"run", run},
                  {"step", step},
                  {"compared_step", found.step},
                  {"identical_percent", percent},
                  {"identical_bytes", found.identical_bytes}});
}

}  // namespace ckpt
