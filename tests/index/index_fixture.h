// An index in a folder of its own, and made-up checkpoints for it: manifests alone, no data files.
#ifndef CKPT_TESTS_INDEX_INDEX_FIXTURE_H_
#define CKPT_TESTS_INDEX_INDEX_FIXTURE_H_

#include <memory>
#include <string>
#include <vector>

#include "common/status_macros.h"
#include "gtest/gtest.h"
#include "server/index/index.h"
#include "tests/persist/persist_fixture.h"

namespace ckpt {

class IndexTest : public testing::Test {
 protected:
  void SetUp() override { Reopen(); }
  void Reopen() {
    index_.reset();
    auto index = Index::Open(path_);
    ASSERT_TRUE(index.ok()) << index.status();
    index_ = *std::move(index);
  }

  struct Made {
    CheckpointUid uid;
    v1::CheckpointManifest manifest;
    std::vector<v1::PartManifest> parts;
  };
  Made Make(const CheckpointId& id, const std::vector<uint64_t>& sizes = {100}, uint32_t ranks = 1,
            uint32_t world_size = 0) {
    Made made;
    made.uid = CheckpointUid::TimeOrdered();
    const auto layout = LayoutOfSizes(sizes);
    made.manifest.set_format_version(1);
    *made.manifest.mutable_id() = id.ToProto();
    made.manifest.set_checkpoint_uid(made.uid.bytes());
    made.manifest.set_world_size(world_size != 0 ? world_size : ranks);
    for (uint32_t rank = 0; rank < ranks; ++rank) {
      made.manifest.add_share(rank);
      v1::PartReference* reference = made.manifest.add_parts();
      reference->set_rank(rank);
      reference->set_manifest_id(FileId::Random().bytes());
      reference->set_data_bytes(layout->data_bytes());
      v1::PartManifest part;
      *part.mutable_id() = id.ToProto();
      part.set_checkpoint_uid(made.uid.bytes());
      part.set_rank(rank);
      part.set_layout_digest(layout->digest());
      *part.mutable_layout() = layout->ToProto();
      part.add_files()->set_file_id(FileId::Random().bytes());
      part.add_block_hashes(rank + 1);
      made.parts.push_back(std::move(part));
    }
    return made;
  }
  CheckpointUid Put(const CheckpointId& id, const std::vector<uint64_t>& sizes = {100},
                    uint32_t ranks = 1, uint32_t world_size = 0,
                    const v1::Labels& labels = v1::Labels()) {
    const Made made = Make(id, sizes, ranks, world_size);
    absl::Status status = index_->PutCheckpoint(made.manifest, made.parts, labels);
    EXPECT_TRUE(status.ok()) << status;
    return made.uid;
  }
  // A part as it was put, from all of its rows.
  absl::StatusOr<v1::PartManifest> WholePart(CheckpointUid uid, uint32_t rank) {
    CKPT_ASSIGN_OR_RETURN(v1::PartManifest part, index_->GetPartHead(uid, rank));
    const auto layout = index_->FindLayout(part.layout_digest());
    if (layout == nullptr) return absl::NotFoundError("no layout");
    *part.mutable_layout() = layout->ToProto();
    for (uint64_t row = 0;; ++row) {
      const auto hashes = index_->ReadBlockHashes(uid, rank, row);
      if (absl::IsNotFound(hashes.status())) break;
      CKPT_RETURN_IF_ERROR(hashes.status());
      part.mutable_block_hashes()->Add(hashes->begin(), hashes->end());
    }
    std::string from;
    do {
      CKPT_ASSIGN_OR_RETURN(const ValueRow row, index_->ReadValues(uid, rank, from));
      EXPECT_EQ(row.from, from);
      if (row.values.entries_size() > 0) part.mutable_values()->MergeFrom(row.values);
      from = row.until;
    } while (!from.empty());
    return part;
  }
  std::vector<uint64_t> Steps(const std::string& run, std::optional<uint64_t> below) {
    std::vector<uint64_t> steps;
    EXPECT_TRUE(index_
                    ->ForEachCheckpoint(run, below,
                                        [&](const CheckpointRecord& record) {
                                          steps.push_back(record.manifest.id().step());
                                          return true;
                                        })
                    .ok());
    return steps;
  }

  TemporaryFolder folder_;
  const std::string path_ = folder_.path() + "/index";
  std::unique_ptr<Index> index_;
};

}  // namespace ckpt

#endif  // CKPT_TESTS_INDEX_INDEX_FIXTURE_H_
