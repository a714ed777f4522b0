// A committed part as a reader needs it: from the index, or from its file where the index cannot
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

struct CommittedPart {
  v1::PartManifest manifest;  // its `layout` may be empty: use the one below
  std::shared_ptr<const PartLayout> layout;
};

// NOT_FOUND: deleted meanwhile. DATA_LOSS: the manifest is damaged (names the file), or its layout,
// files and hashes do not belong together.
absl::StatusOr<CommittedPart> ReadPart(Index* index, DataFolder* folder, CheckpointUid uid,
                                       const v1::PartReference& reference);

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_PART_MANIFEST_H_
