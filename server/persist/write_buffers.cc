#include "server/persist/write_buffers.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>

namespace ckpt {
namespace {

constexpr size_t kHugePageBytes = 2 << 20;

}  // namespace

WriteBuffers::WriteBuffers(size_t buffer_bytes, uint64_t bytes_max, size_t per_part_max)
    : buffer_bytes_(buffer_bytes),
      count_max_(std::max<uint64_t>(1, bytes_max / buffer_bytes)),
      per_part_max_(per_part_max) {}

WriteBuffers::~WriteBuffers() {
  MutexLock lock(mutex_);
  for (char* buffer : free_) Free(buffer);
}

char* WriteBuffers::Allocate() const {
  const size_t alignment = buffer_bytes_ % kHugePageBytes == 0 ? kHugePageBytes : 4096;
  void* memory = nullptr;
  if (posix_memalign(&memory, alignment, buffer_bytes_) != 0) return nullptr;
  // A hint: where the host has none to give, small pages do.
  if (alignment == kHugePageBytes) madvise(memory, buffer_bytes_, MADV_HUGEPAGE);
  return static_cast<char*>(memory);
}

void WriteBuffers::Free(char* buffer) const { std::free(buffer); }

char* WriteBuffers::Take(Holder& holder) {
  MutexLock lock(mutex_);
  while (holder.held_ >= per_part_max_ ||
         (holder.held_ > 0 && free_.empty() && count_ >= count_max_)) {
    returned_.Wait(mutex_);
  }
  char* buffer = nullptr;
  if (!free_.empty()) {
    buffer = free_.back();
    free_.pop_back();
  } else {
    buffer = Allocate();
    if (buffer == nullptr) return nullptr;
    ++count_;
  }
  ++holder.held_;
  return buffer;
}

void WriteBuffers::GiveBack(Holder& holder, char* buffer) {
  MutexLock lock(mutex_);
  --holder.held_;
  if (count_ > count_max_) {
    --count_;
    Free(buffer);
  } else {
    free_.push_back(buffer);
  }
  returned_.NotifyAll();  // whoever holds none any more may go on as well
}

}  // namespace ckpt
