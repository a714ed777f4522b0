// A restore plan while somebody may read by it: what it references, and how its pieces are read.
#ifndef CKPT_SERVER_RPC_OPEN_PLAN_H_
#define CKPT_SERVER_RPC_OPEN_PLAN_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "ckpt/v1/checkpoint.pb.h"
#include "common/ids.h"
#include "common/mutex.h"
#include "server/staging/memory_copies.h"
#include "server/storage/data_folder.h"

namespace ckpt {

// The references are dropped with the object. Built by one thread, then handed to the table; Read
// may be called from any thread once nothing is added any more.
class OpenPlan {
 public:
  // A plan has as many as the checkpoint has shards, so they are small.
  struct Piece {
    uint64_t part_offset = 0;  // bytes, in the memory copy
    uint64_t length = 0;       // bytes of the whole shard
    uint32_t disk_file = 0;    // AddDiskFile's answer
  };

  OpenPlan(DataFolder* folder, v1::CheckpointId checkpoint)
      : id_(PlanId::Random()), folder_(folder), checkpoint_(std::move(checkpoint)) {}

  PlanId id() const { return id_; }

  // Null where that rank's part is not in memory.
  uint32_t AddMemory(uint32_t rank, std::unique_ptr<MemoryPin> pin);
  // Of the part whose memory copy has that number; its byte at part offset o lies at
  // o + `shift` (modulo 2^64).
  uint32_t AddDiskFile(FileId id, uint32_t memory, uint64_t shift);
  // From here on the file cannot be unlinked. NOT_FOUND: it is not there.
  absl::Status PinDiskFile(uint32_t number);
  void AddPiece(const Piece& piece) { pieces_.push_back(piece); }

  const MemoryPin* memory(uint32_t number) const { return memory_[number].pin.get(); }
  // Opened once, kept open with the plan. DATA_LOSS: it is not there.
  absl::StatusOr<const ReadableFile*> disk_file(uint32_t number);

  const std::deque<Piece>& pieces() const { return pieces_; }
  // Bytes of a piece, from memory where it is there and otherwise from disk. DATA_LOSS: the data
  // file is missing, or shorter than its manifest says.
  absl::Status Read(const Piece& piece, uint64_t offset, void* out, size_t bytes);

 private:
  struct Memory {
    uint32_t rank;
    std::unique_ptr<MemoryPin> pin;
  };
  struct DiskFile {
    FileId id;
    DataFolder::FilePin pin;
    uint32_t memory;
    uint64_t shift;
    std::unique_ptr<ReadableFile> open;
  };
  const PlanId id_;
  DataFolder* const folder_;
  const v1::CheckpointId checkpoint_;
  std::vector<Memory> memory_;
  std::deque<Piece> pieces_;
  Mutex opening_;
  std::deque<DiskFile> disk_files_ ABSL_GUARDED_BY(opening_);
};

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_OPEN_PLAN_H_
