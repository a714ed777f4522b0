#include "server/rpc/part_manifest.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

absl::Status CheckTogether(const CommittedPart& part) {
  const PartLayout& layout = *part.layout;
  const v1::PartManifest& manifest = part.manifest;
  const char* wrong = nullptr;
  if (layout.digest() != manifest.layout_digest()) wrong = "its layout has another digest";
  if (layout.files().size() != static_cast<size_t>(manifest.files_size())) {
    wrong = "its data files are not those of its layout";
  }
  if (layout.block_count() != static_cast<uint64_t>(manifest.block_hashes_size())) {
    wrong = "its block hashes are not those of its layout";
  }
  for (int i = 0; wrong == nullptr && i < manifest.files_size(); ++i) {
    if (manifest.files(i).first_shard() != layout.files()[i].first_shard ||
        manifest.files(i).shard_count() != layout.files()[i].shard_count) {
      wrong = "a data file holds other shards than its layout says";
    }
  }
  if (wrong == nullptr) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("part manifest of rank ", manifest.rank(), " of ",
                                          manifest.id().run(), "@", manifest.id().step(),
                                          " does not hold together: ", wrong));
}

}  // namespace

absl::StatusOr<CommittedPart> ReadPart(Index* index, DataFolder* folder, CheckpointUid uid,
                                       const v1::PartReference& reference) {
  CommittedPart part;
  absl::StatusOr<v1::PartManifest> head = index->GetPartHead(uid, reference.rank());
  if (head.ok()) {
    part.manifest = *std::move(head);
    part.layout = index->FindLayout(part.manifest.layout_digest());
  }
  if (part.layout == nullptr) {
    CKPT_ASSIGN_OR_RETURN(part.manifest, folder->ReadPartManifest(reference));
    auto layout = PartLayout::FromProto(part.manifest.layout());
    if (!layout.ok()) {
      return absl::DataLossError(absl::StrCat("part manifest of rank ", reference.rank(),
                                              " has no valid layout: ", layout.status().message()));
    }
    part.layout = *std::move(layout);
  }
  CKPT_RETURN_IF_ERROR(CheckTogether(part));
  return part;
}

}  // namespace ckpt
