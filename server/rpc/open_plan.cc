#include "server/rpc/open_plan.h"

#include <unistd.h>

#include <cerrno>
#include <utility>

#include "common/status_macros.h"

namespace ckpt {
namespace {

// False on a short read or an error: the disk has the same bytes.
bool ReadMemory(const MemoryPin& pin, uint64_t offset, char* out, size_t bytes) {
  while (bytes > 0) {
    const ssize_t got = ::pread(pin.read_only_descriptor(), out, bytes, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    out += got;
    offset += static_cast<uint64_t>(got);
    bytes -= static_cast<size_t>(got);
  }
  return true;
}

}  // namespace

uint32_t OpenPlan::AddMemory(std::unique_ptr<MemoryPin> pin) {
  memory_.push_back(std::move(pin));
  return static_cast<uint32_t>(memory_.size() - 1);
}

absl::StatusOr<uint32_t> OpenPlan::AddDiskFile(FileId id, uint32_t memory, uint64_t shift) {
  CKPT_ASSIGN_OR_RETURN(DataFolder::FilePin pin, folder_->Pin(id));
  MutexLock lock(opening_);
  disk_files_.push_back({id, std::move(pin), memory, shift, nullptr});
  return static_cast<uint32_t>(disk_files_.size() - 1);
}

absl::StatusOr<const ReadableFile*> OpenPlan::disk_file(uint32_t number) {
  MutexLock lock(opening_);
  DiskFile& file = disk_files_[number];
  if (file.open == nullptr) {
    CKPT_ASSIGN_OR_RETURN(file.open, folder_->OpenDataFile(file.id));
  }
  return file.open.get();
}

absl::Status OpenPlan::Read(const Piece& piece, uint64_t offset, void* out, size_t bytes) {
  uint32_t memory_number = 0;
  uint64_t shift = 0;
  {
    MutexLock lock(opening_);
    memory_number = disk_files_[piece.disk_file].memory;
    shift = disk_files_[piece.disk_file].shift;
  }
  const MemoryPin* pin = memory(memory_number);
  if (pin != nullptr &&
      ReadMemory(*pin, piece.part_offset + offset, static_cast<char*>(out), bytes)) {
    return absl::OkStatus();
  }
  CKPT_ASSIGN_OR_RETURN(const ReadableFile* file, disk_file(piece.disk_file));
  return file->ReadAt(piece.part_offset + shift + offset, out, bytes);
}

}  // namespace ckpt
