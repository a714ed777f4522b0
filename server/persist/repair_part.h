// Puts damaged data files of a committed part right, from another tier that has the part's bytes.
#ifndef CKPT_SERVER_PERSIST_REPAIR_PART_H_
#define CKPT_SERVER_PERSIST_REPAIR_PART_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "ckpt/v1/checkpoint.pb.h"
#include "server/persist/part_source.h"
#include "server/storage/data_folder.h"

namespace ckpt {

// A tier that may have parts of committed checkpoints. What it gives is checked, not trusted.
// Thread-safe.
class BlockSource {
 public:
  virtual ~BlockSource() = default;
  // The part's bytes. Null: it is not there.
  virtual std::unique_ptr<PartSource> Open(CheckpointUid uid, uint32_t rank) = 0;
};

// Makes each data file of `part` that is missing, short or damaged anew: the header from the
// manifest, each block from the file itself where it is good and from `source` where it is not, all
// checked against the manifest's hashes. The new file is synced, then renamed over the old one,
// which whoever has it open goes on reading. Answers how many files were replaced. DATA_LOSS: a
// block is good in neither place, and its file stays as it is; otherwise what the disk said. One
// thread; the files must be those of a checkpoint that is not being deleted, or pinned.
absl::StatusOr<uint32_t> RepairPart(DataFolder* folder, const v1::PartManifest& part,
                                    PartSource& source);

}  // namespace ckpt

#endif  // CKPT_SERVER_PERSIST_REPAIR_PART_H_
