// A committed part's manifest and layout: from the index, or from its file where the index cannot
// give it (the file is the truth).
#ifndef CKPT_SERVER_RPC_PART_MANIFEST_H_
#define CKPT_SERVER_RPC_PART_MANIFEST_H_

#include <memory>

#include "absl/status/statusor.h"
#include "ckpt/v1/checkpoint.pb.h"
#include "common/ids.h"
#include "common/layout.h"
#include "server/index/index.h"
#include "server/storage/data_folder.h"

namespace ckpt {

// NOT_FOUND: deleted meanwhile. DATA_LOSS names the file.
absl::StatusOr<v1::PartManifest> ReadPart(Index* index, DataFolder* folder, CheckpointUid uid,
                                          const v1::PartReference& reference);

// DATA_LOSS where layout, files and hashes of the manifest do not belong together.
absl::StatusOr<std::shared_ptr<const PartLayout>> LayoutOf(Index* index,
                                                           const v1::PartManifest& manifest);

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_PART_MANIFEST_H_
