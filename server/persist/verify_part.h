// Reads every byte of a part on disk and checks every hash: for the offline verify and for the RPC.
#ifndef CKPT_SERVER_PERSIST_VERIFY_PART_H_
#define CKPT_SERVER_PERSIST_VERIFY_PART_H_

#include <cstdint>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "ckpt/v1/checkpoint.pb.h"
#include "common/layout.h"
#include "server/storage/data_folder.h"

namespace ckpt {

struct VerifyCallbacks {
  // Called for each file, key and offset that is wrong, as a line for people.
  absl::FunctionRef<void(const std::string&)> damage;
  // `bytes` more have been read. False ends the verification with CANCELLED.
  absl::FunctionRef<bool(uint64_t bytes)> progress;
};

// Blocking, one thread, about 9 MiB of memory. `layout` is the manifest's own. Damage is not an
// error of the call; an error is CANCELLED, INVALID_ARGUMENT where manifest and layout do not belong
// together, or what kept a file that may be whole from being read (SaysDamaged in
// storage/file_system.h). `past_cache`: storage/direct_read.h. Bytes reported by `progress` add up
// to PartBytesOnDisk, damage or not.
absl::Status VerifyPart(DataFolder* folder, const v1::PartManifest& manifest,
                        const PartLayout& layout, const VerifyCallbacks& callbacks,
                        bool past_cache = false);
uint64_t PartBytesOnDisk(const v1::PartManifest& manifest);

}  // namespace ckpt

#endif  // CKPT_SERVER_PERSIST_VERIFY_PART_H_
