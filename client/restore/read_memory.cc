// The memory tier: each block is copied straight from the mapped staging file, hashed on the way.
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

#include "client/restore/piece_reader.h"
#include "common/mutex.h"

namespace ckpt {
namespace {

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
  return !CopyChecked(extent, (*mapping)->data() + offset).has_value();
}

}  // namespace ckpt
