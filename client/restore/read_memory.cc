// The memory tier: each block is copied straight from the mapped staging file and hashed, in steps
// that stay in the core's cache between the two.
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

#include "client/restore/piece_reader.h"
#include "common/digest.h"
#include "common/mutex.h"

namespace ckpt {
namespace {

constexpr uint64_t kStepBytes = uint64_t{64} << 10;

// Reading a mapping past the end of a truncated file would be a SIGBUS.
bool LongEnough(const ReadFile& file, uint64_t end) {
  struct stat info;
  return fstat(file.descriptor(), &info) == 0 && static_cast<uint64_t>(info.st_size) >= end;
}

}  // namespace

std::vector<uint32_t> PieceReader::ReadMemory(absl::Span<const uint32_t> extents) {
  Mutex mutex;
  std::vector<uint32_t> failed;
  uint64_t bytes_read = 0;
  const absl::Status status =
      ForEachParallel(extents.size(), source_.threads, [&](size_t item, Scratch&) -> absl::Status {
        const Extent& extent = schedule_.extents[extents[item]];
        const bool good = ReadMemoryExtent(extent);
        MutexLock lock(mutex);
        if (good) {
          bytes_read += extent.bytes;
        } else {
          failed.push_back(extents[item]);
        }
        return absl::OkStatus();
      });
  static_cast<void>(status);  // no item fails
  statistics_.bytes_read += bytes_read;
  statistics_.bytes_from_memory += bytes_read;
  std::sort(failed.begin(), failed.end());
  return failed;
}

bool PieceReader::ReadMemoryExtent(const Extent& extent) {
  const StoredPiece& piece = source_.pieces[extent.piece];
  const auto found = source_.files.find(piece.file);
  if (found == source_.files.end()) return false;
  const uint64_t offset = FileOffset(piece, extent, false);
  if (!LongEnough(*found->second, offset + extent.bytes)) return false;
  const absl::StatusOr<std::shared_ptr<Mapping>> mapping = found->second->Map();
  if (!mapping.ok() || (*mapping)->length() < offset + extent.bytes ||
      !(*mapping)->Populate(offset, extent.bytes).ok()) {
    return false;
  }
  const std::byte* bytes = (*mapping)->data() + offset;
  const uint64_t block_bytes = piece.block_bytes;
  if (source_.verify) bytes_hashed_.fetch_add(extent.bytes, std::memory_order_relaxed);
  Xxh3Stream hash;
  for (uint64_t block = 0; block < extent.bytes; block += block_bytes) {
    const uint64_t end = std::min(block + block_bytes, extent.bytes);
    hash.Reset();
    for (uint64_t at = block; at < end; at += kStepBytes) {
      const uint64_t length = std::min(kStepBytes, end - at);
      // Copied first: what a stray write changes after that, the hash still sees.
      Scatter(extent, extent.begin + at, extent.begin + at + length, bytes + at);
      if (source_.verify) hash.Update(bytes + at, length);
    }
    if (source_.verify && hash.Digest() != BlockHash(piece, (extent.begin + block) / block_bytes)) {
      return false;
    }
  }
  return true;
}

}  // namespace ckpt
