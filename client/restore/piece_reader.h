// Reads scheduled extents into their targets, verifying every block: from the memory tier's
// mappings (read_memory.cc), from the disk tier's files (read_disk.cc), or over the wire
// (read_stream.cc).
#ifndef CKPT_CLIENT_RESTORE_PIECE_READER_H_
#define CKPT_CLIENT_RESTORE_PIECE_READER_H_

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "client/memory/worker_threads.h"
#include "client/restore/read_schedule.h"
#include "client/transport/connection.h"
#include "client/transport/granted_files.h"

namespace ckpt {

// What a plan gives its readers. Outlives the reading.
struct PieceSource {
  std::string checkpoint;  // for errors
  std::string plan_id;
  std::shared_ptr<Connection> connection;
  std::map<FileId, std::shared_ptr<ReadFile>> files;  // those that were granted
  absl::Span<const v1::PlannedLeaf> leaves;
  std::vector<StoredPiece> pieces;
  std::shared_ptr<WorkerThreads> workers;
  int threads = 2;
  bool verify = true;
};

// The extents of one call of RestorePlan::Read, given as indices into the schedule's. Each Read...
// blocks, using the source's threads.
class PieceReader {
 public:
  PieceReader(const PieceSource& source, const ReadSchedule& schedule,
              absl::Span<const ReadTarget> targets)
      : source_(source), schedule_(schedule), targets_(targets) {}

  // Memory tier. Returns the extents that cannot be had there: recycled, truncated, wrong hash.
  std::vector<uint32_t> ReadMemory(absl::Span<const uint32_t> extents);
  // Disk tier, or (use_disk) the disk copies of memory pieces: through the page cache what other
  // ranks want as well or what is there already, past it everything else. DATA_LOSS names
  // checkpoint, key and offset.
  absl::Status ReadDisk(absl::Span<const uint32_t> extents, bool use_disk);
  // Through the daemon. DATA_LOSS, or what the connection said.
  absl::Status ReadStream(absl::Span<const uint32_t> extents);

  ReadStatistics statistics() const;

 private:
  // A buffer of one thread, for bytes that do not go straight to a target. Begins on a page.
  class Scratch {
   public:
    std::byte* Get(size_t bytes);

   private:
    struct Free {
      void operator()(std::byte* bytes) const;
    };
    std::unique_ptr<std::byte, Free> bytes_;
    size_t capacity_ = 0;
  };

  bool ReadMemoryExtent(const Extent& extent);
  absl::Status ReadDiskBatch(const Batch& batch, bool use_disk, Scratch& scratch);
  absl::Status ReadCached(const Batch& batch, const ReadFile& file, bool use_disk,
                          Scratch& scratch);
  absl::Status ReadDirect(const Batch& batch, ReadFile& file, bool use_disk, Scratch& scratch);
  std::string StreamOf(const Extent& extent) const;  // for errors
  absl::Status ReadStreamRanges(absl::Span<const uint32_t> extents, Scratch& scratch);

  const PieceCopy& CopyOf(const Extent& extent, uint32_t i) const {
    return schedule_.copies[schedule_.copies_of_extents[extent.first_copy + i]];
  }
  // The one buffer that the whole extent goes to, dense; null where it has several destinations or
  // is scattered.
  std::byte* DirectDestination(const Extent& extent) const;
  // Copies the shard's bytes [begin, end), which lie at `bytes`, to the extent's targets.
  void Scatter(const Extent& extent, uint64_t begin, uint64_t end, const std::byte* bytes) const;
  uint64_t BlockHash(const StoredPiece& piece, uint64_t block) const;
  // Copies the extent's blocks, which lie dense at `bytes`, to the extent's targets and hashes
  // them, in steps that stay in the core's cache between the two. Returns the offset in the shard
  // of the first block that does not match its hash; it was copied, what comes behind it was not.
  std::optional<uint64_t> CopyChecked(const Extent& extent, const std::byte* bytes) const;
  // The same, as a status. `where` says which copy the bytes are.
  absl::Status Deliver(const Extent& extent, const std::byte* bytes, absl::string_view where) const;
  absl::Status Damaged(const Extent& extent, uint64_t offset, absl::string_view what,
                       absl::string_view where) const;
  // Calls work(item, scratch) for each item, on the threads; the first error ends it.
  absl::Status ForEachParallel(
      size_t items, int threads,
      absl::FunctionRef<absl::Status(size_t item, Scratch& scratch)> work) const;

  const PieceSource& source_;
  const ReadSchedule& schedule_;
  const absl::Span<const ReadTarget> targets_;
  ReadStatistics statistics_;
  std::atomic<uint64_t> reads_{0};
  mutable std::atomic<uint64_t> bytes_hashed_{0};
};

}  // namespace ckpt

#endif  // CKPT_CLIENT_RESTORE_PIECE_READER_H_
