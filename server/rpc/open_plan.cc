#include "server/rpc/open_plan.h"

#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "server/rpc/committed_part.h"
#include "server/storage/names.h"

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

uint32_t OpenPlan::AddMemory(uint32_t rank, std::unique_ptr<MemoryPin> pin) {
  memory_.push_back({rank, std::move(pin)});
  return static_cast<uint32_t>(memory_.size() - 1);
}

uint32_t OpenPlan::AddDiskFile(FileId id, uint32_t memory, uint64_t shift) {
  MutexLock lock(opening_);
  disk_files_.push_back({id, DataFolder::FilePin(), memory, shift, nullptr});
  return static_cast<uint32_t>(disk_files_.size() - 1);
}

absl::Status OpenPlan::PinDiskFile(uint32_t number) {
  FileId id;
  {
    MutexLock lock(opening_);
    id = disk_files_[number].id;
  }
  CKPT_ASSIGN_OR_RETURN(DataFolder::FilePin pin, folder_->Pin(id));
  MutexLock lock(opening_);
  disk_files_[number].pin = std::move(pin);
  return absl::OkStatus();
}

absl::StatusOr<const ReadableFile*> OpenPlan::disk_file(uint32_t number) {
  MutexLock lock(opening_);
  DiskFile& file = disk_files_[number];
  if (file.open == nullptr) {
    absl::StatusOr<std::unique_ptr<ReadableFile>> opened = folder_->OpenDataFile(file.id);
    if (absl::IsNotFound(opened.status())) {
      return DamageOf(checkpoint_, memory_[file.memory].rank,
                      absl::StrCat(names::DataFile(file.id), " is missing on disk"));
    }
    CKPT_RETURN_IF_ERROR(opened.status());
    file.open = *std::move(opened);
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
