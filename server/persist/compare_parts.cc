#include "server/persist/compare_parts.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "server/observe/log.h"

namespace ckpt {
namespace {

bool AllIdentical(uint64_t identical_bytes, uint64_t data_bytes) {
  return data_bytes > 0 && identical_bytes == data_bytes;
}

// The block hashes of one part, from the index, row by row.
class HashRows {
 public:
  HashRows(Index* index, CheckpointUid uid, uint32_t rank)
      : index_(index), uid_(uid), rank_(rank) {}

  absl::StatusOr<uint64_t> At(uint64_t block) {
    const uint64_t row = block / Index::kHashesPerRow;
    if (row != row_) {
      CKPT_ASSIGN_OR_RETURN(hashes_, index_->ReadBlockHashes(uid_, rank_, row));
      row_ = row;
    }
    const uint64_t place = block % Index::kHashesPerRow;
    if (place >= hashes_.size()) {
      return absl::NotFoundError(absl::StrCat("the index has no hash of block ", block));
    }
    return hashes_[place];
  }

 private:
  Index* const index_;
  const CheckpointUid uid_;
  const uint32_t rank_;
  uint64_t row_ = UINT64_MAX;
  std::vector<uint64_t> hashes_;
};

// Bytes in blocks whose hashes are equal; both parts have this layout.
absl::StatusOr<uint64_t> IdenticalBytes(HashRows before, HashRows after, const PartLayout& layout,
                                        uint64_t block_bytes) {
  uint64_t identical = 0;
  for (const PartLayout::ShardPlace& shard : layout.shards()) {
    uint64_t block = shard.first_block;
    for (uint64_t offset = 0; offset < shard.length; offset += block_bytes, ++block) {
      CKPT_ASSIGN_OR_RETURN(const uint64_t old_hash, before.At(block));
      CKPT_ASSIGN_OR_RETURN(const uint64_t new_hash, after.At(block));
      if (old_hash == new_hash) identical += std::min(block_bytes, shard.length - offset);
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
    const uint64_t block_bytes = new_part.block_bytes();
    if (old_part.layout_digest() != new_part.layout_digest() || block_bytes == 0 ||
        old_part.block_bytes() != block_bytes) {
      return std::nullopt;
    }
    const std::shared_ptr<const PartLayout> layout = index->FindLayout(new_part.layout_digest());
    if (layout == nullptr) return std::nullopt;
    CKPT_ASSIGN_OR_RETURN(const uint64_t identical,
                          IdenticalBytes({index, uid_before, rank}, {index, uid, rank}, *layout,
                                         block_bytes));
    comparison.identical_bytes += identical;
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
