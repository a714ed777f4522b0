#include "client/memory/mapping.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

namespace ckpt {
namespace {

constexpr uint64_t kGranule = uint64_t{2} << 20;  // also the size of a huge page

absl::Status MapError(int error, uint64_t length) {
  const std::string text = absl::StrCat("cannot map a file of ", length,
                                        " bytes that the daemon granted: ", strerror(error));
  return error == ENOMEM ? absl::ResourceExhaustedError(text) : absl::InternalError(text);
}

// Where the kernel cannot populate (before 5.14): touch each page. A write fault must not change
// the byte.
void TouchPages(const std::byte* data, uint64_t bytes, bool writable) {
  const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  for (uint64_t at = 0; at < bytes; at += page) {
    auto* byte = reinterpret_cast<unsigned char*>(const_cast<std::byte*>(data + at));
    if (writable) {
      __atomic_fetch_or(byte, 0, __ATOMIC_RELAXED);
    } else {
      static_cast<void>(__atomic_load_n(byte, __ATOMIC_RELAXED));
    }
  }
}

}  // namespace

int PopulatePages(const std::byte* data, uint64_t bytes, bool writable) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t lead = reinterpret_cast<uintptr_t>(data) % page;
  void* const first = const_cast<std::byte*>(data - lead);
  for (;;) {
    if (madvise(first, lead + bytes, writable ? MADV_POPULATE_WRITE : MADV_POPULATE_READ) == 0) {
      return 0;
    }
    if (errno == EINTR || errno == EAGAIN) continue;
    if (errno != EINVAL) return errno;
    TouchPages(data - lead, lead + bytes, writable);  // this kernel does not know it
    return 0;
  }
}

Mapping::Mapping(std::byte* data, uint64_t length, bool writable)
    : data_(data),
      length_(length),
      writable_(writable),
      granules_((length + kGranule - 1) / kGranule),
      present_(new std::atomic<bool>[granules_]),
      missing_granules_(granules_) {
  for (uint64_t i = 0; i < granules_; ++i) present_[i].store(false, std::memory_order_relaxed);
}

absl::StatusOr<std::shared_ptr<Mapping>> Mapping::Map(int descriptor, uint64_t length,
                                                      bool writable) {
  struct stat info;
  if (fstat(descriptor, &info) != 0) return MapError(errno, length);
  if (static_cast<uint64_t>(info.st_size) < length) {
    return absl::FailedPreconditionError(absl::StrCat(
        "a granted file is shorter than announced: ", info.st_size, " of ", length, " bytes"));
  }
  if (length == 0) return std::shared_ptr<Mapping>(new Mapping(nullptr, 0, writable));
  // Reserve one granule more and map at a multiple of the granule, so that huge pages can be used
  // where the host has them.
  void* reserved = mmap(nullptr, length + kGranule, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return MapError(errno, length);
  const auto begin = reinterpret_cast<uintptr_t>(reserved);
  const uintptr_t aligned = (begin + kGranule - 1) / kGranule * kGranule;
  const int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
  void* mapped = mmap(reinterpret_cast<void*>(aligned), length, protection, MAP_SHARED | MAP_FIXED,
                      descriptor, 0);
  if (mapped == MAP_FAILED) {
    const int error = errno;
    munmap(reserved, length + kGranule);
    return MapError(error, length);
  }
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t end = (aligned + length + page - 1) / page * page;
  const uintptr_t reserved_end = begin + (length + kGranule + page - 1) / page * page;
  if (aligned > begin) munmap(reserved, aligned - begin);
  if (reserved_end > end) munmap(reinterpret_cast<void*>(end), reserved_end - end);
  madvise(mapped, length, MADV_DONTFORK);
  madvise(mapped, length, MADV_HUGEPAGE);  // best effort: without effect on most hosts
  return std::shared_ptr<Mapping>(new Mapping(static_cast<std::byte*>(mapped), length, writable));
}

Mapping::~Mapping() {
  if (length_ > 0) munmap(data_, length_);
}

absl::Status Mapping::Populate(uint64_t offset, uint64_t bytes) {
  if (bytes == 0 || populated()) return absl::OkStatus();
  const uint64_t last = (offset + bytes - 1) / kGranule;
  for (uint64_t granule = offset / kGranule; granule <= last;) {
    if (present_[granule].load(std::memory_order_acquire)) {
      ++granule;
      continue;
    }
    uint64_t end = granule + 1;
    while (end <= last && !present_[end].load(std::memory_order_acquire)) ++end;
    const uint64_t begin = granule * kGranule;
    const absl::Status status = PopulateRange(begin, std::min(end * kGranule, length_) - begin);
    if (!status.ok()) return status;
    for (; granule < end; ++granule) {
      if (!present_[granule].exchange(true, std::memory_order_acq_rel)) {
        missing_granules_.fetch_sub(1, std::memory_order_acq_rel);
      }
    }
  }
  return absl::OkStatus();
}

absl::Status Mapping::PopulateRange(uint64_t offset, uint64_t bytes) {
  const int error = PopulatePages(data_ + offset, bytes, writable_);
  if (error == 0) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(
      "a mapped file of the memory tier has no pages at offset ", offset, ": ", strerror(error)));
}

}  // namespace ckpt
