#include "server/rpc/leaf_sequence.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "server/rpc/leaf_merge.h"

namespace ckpt {
namespace {

class MergedLeaves : public LeafSequence {
 public:
  MergedLeaves(Index* index, DataFolder* folder, const CheckpointRecord& record,
               const LeafSelection& selection, LeafMerge leaves)
      : index_(index),
        folder_(folder),
        record_(record),
        selection_(selection),
        leaves_(std::move(leaves)) {}

  absl::StatusOr<const StoredLeaf*> Next() override {
    CKPT_RETURN_IF_ERROR(std::exchange(begun_, true) ? leaves_.Next() : leaves_.Seek(""));
    CKPT_ASSIGN_OR_RETURN(const bool more, selection_.SkipToRange(leaves_));
    if (!more) return nullptr;
    leaf_ = StoredLeaf();
    described_.Clear();
    CKPT_RETURN_IF_ERROR(leaves_.Describe(described_));
    leaf_.rank = leaves_.own() ? leaves_.rank() : 0;
    leaf_.leaf = &described_.leaf();
    if (described_.has_value()) leaf_.value = &described_.value();
    leaf_.block_bytes = leaves_.parts().front()->head().block_bytes();
    if (leaf_.block_bytes == 0) {
      return absl::DataLossError("a part manifest has blocks of no bytes");
    }
    if (const CommittedPart* alias = leaves_.alias(); alias != nullptr) {
      CKPT_RETURN_IF_ERROR(AddStorage(alias->rank(), std::string(*alias->leaf().alias_target())));
    } else {
      CKPT_RETURN_IF_ERROR(AddShards(leaves_));
    }
    // Last, because the key moves where a part's hashes had to be read from its file.
    leaf_.printed_key = leaves_.printed_key();
    return &leaf_;
  }

 private:
  // The leaf that holds an alias's bytes, which the part of that rank declares.
  absl::Status AddStorage(uint32_t rank, const std::string& key) {
    if (!storages_.has_value()) {
      CKPT_ASSIGN_OR_RETURN(LeafMerge opened, LeafMerge::Open(index_, folder_, record_));
      storages_.emplace(std::move(opened));
    }
    CKPT_RETURN_IF_ERROR(storages_->Seek(key));
    while (storages_->valid() && storages_->printed_key() == key && !storages_->DeclaredBy(rank)) {
      CKPT_RETURN_IF_ERROR(storages_->Next());
    }
    if (!storages_->valid() || storages_->printed_key() != key) {
      return absl::DataLossError(absl::StrCat("rank ", rank, " has no tensor '", key, "' that '",
                                              leaves_.printed_key(), "' is an alias of"));
    }
    storage_.Clear();
    CKPT_RETURN_IF_ERROR(storages_->Describe(storage_));
    storage_key_ = key;
    leaf_.storage = &storage_.leaf();
    leaf_.storage_key = storage_key_;
    return AddShards(*storages_);
  }

  absl::Status AddShards(LeafMerge& leaves) {
    hashes_.Clear();
    std::vector<int> first_hash;
    for (CommittedPart* const part : leaves.parts()) {
      CKPT_RETURN_IF_ERROR(part->leaf().ReadShards(read_));
      for (const LeafShard& shard : read_) {
        first_hash.push_back(hashes_.size());
        leaf_.shards.push_back({shard.box, shard.length, {}});
        CKPT_RETURN_IF_ERROR(part->ReadHashes(
            shard.first_block, (shard.length + leaf_.block_bytes - 1) / leaf_.block_bytes,
            &hashes_));
      }
    }
    first_hash.push_back(hashes_.size());
    for (size_t s = 0; s < leaf_.shards.size(); ++s) {
      leaf_.shards[s].block_hashes = {hashes_.data() + first_hash[s],
                                      static_cast<size_t>(first_hash[s + 1] - first_hash[s])};
    }
    std::sort(leaf_.shards.begin(), leaf_.shards.end(),
              [](const StoredShard& a, const StoredShard& b) { return a.box < b.box; });
    const auto same = [](const StoredShard& a, const StoredShard& b) { return a.box == b.box; };
    leaf_.shards.erase(std::unique(leaf_.shards.begin(), leaf_.shards.end(), same),
                       leaf_.shards.end());
    return absl::OkStatus();
  }

  Index* const index_;
  DataFolder* const folder_;
  const CheckpointRecord record_;
  const LeafSelection& selection_;
  LeafMerge leaves_;
  std::optional<LeafMerge> storages_;  // stands where an alias points
  bool begun_ = false;
  // What leaf_ points into.
  v1::PlannedLeaf described_;
  v1::PlannedLeaf storage_;
  std::string storage_key_;
  google::protobuf::RepeatedField<uint64_t> hashes_;
  std::vector<LeafShard> read_;
  StoredLeaf leaf_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<LeafSequence>> OpenLeaves(Index* index, DataFolder* folder,
                                                         const CheckpointRecord& record,
                                                         const LeafSelection& selection) {
  CKPT_ASSIGN_OR_RETURN(LeafMerge leaves, LeafMerge::Open(index, folder, record));
  return std::make_unique<MergedLeaves>(index, folder, record, selection, std::move(leaves));
}

}  // namespace ckpt
