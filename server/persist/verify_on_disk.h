// All that lies on disk of one committed checkpoint, against the hashes of its manifests: the
// checkpoint manifest, labels, part manifests, every byte of the data files. For `checkpoint
// verify`, `latest-valid`, the scrubber and `ckptutil verify`.
#ifndef CKPT_SERVER_PERSIST_VERIFY_ON_DISK_H_
#define CKPT_SERVER_PERSIST_VERIFY_ON_DISK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "ckpt/v1/checkpoint.pb.h"
#include "server/storage/data_folder.h"

namespace ckpt {

struct VerificationProgress {
  uint64_t bytes_done = 0;
  uint64_t bytes_total = 0;
  // Each names file, key and offset. At most 1000, then one that says so.
  std::vector<std::string> damage;
  bool labels_only = true;  // of all damage: what is restored is whole
};

struct VerifyOptions {
  // What the index has of the checkpoint manifest: the file must say the same. Where the file does
  // not read, the rest is checked by this. Null: the file alone.
  const v1::CheckpointManifest* known = nullptr;
  bool past_cache = false;  // leave the page cache to others, and see what the device holds
  uint64_t report_every_bytes = 64 << 20;
};

// Calls `progress` at least every `report_every_bytes` (or 8 MiB); CANCELLED as soon as it answers
// false. Damage is not an error: it is in the result. What says nothing about the bytes on disk (no
// descriptors, no memory, no permission, a format newer than this program's) is one, and the
// checkpoint is then neither known to be whole nor to be damaged. One thread. Data files are pinned
// meanwhile.
absl::StatusOr<VerificationProgress> VerifyOnDisk(
    DataFolder* folder, CheckpointUid uid, const VerifyOptions& options,
    absl::FunctionRef<bool(const VerificationProgress&)> progress);

}  // namespace ckpt

#endif  // CKPT_SERVER_PERSIST_VERIFY_ON_DISK_H_
