// Reads all bytes of a checkpoint on the disk tier and compares them with the hashes of its
// manifests.
#ifndef CKPT_SERVER_RPC_DISK_VERIFICATION_H_
#define CKPT_SERVER_RPC_DISK_VERIFICATION_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "server/index/index.h"
#include "server/storage/data_folder.h"

namespace ckpt {

struct VerificationProgress {
  uint64_t bytes_done = 0;
  uint64_t bytes_total = 0;
  // Each names file, key and offset. At most 1000, then one that says so.
  std::vector<std::string> damage;
};

// Calls `progress` at least every 64 MiB; CANCELLED as soon as it answers false. Damage is not an
// error: it is in the result. One thread.
absl::StatusOr<VerificationProgress> VerifyOnDisk(
    DataFolder* folder, const CheckpointRecord& record,
    absl::FunctionRef<bool(const VerificationProgress&)> progress);

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_DISK_VERIFICATION_H_
