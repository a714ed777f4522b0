// A shared mapping of a file that the daemon granted. Not inherited by forked children. Pages are
// entered into the page table ahead of use (populated), range by range, since a page fault for each
// page is thirty times slower than the copy.
#ifndef CKPT_CLIENT_MEMORY_MAPPING_H_
#define CKPT_CLIENT_MEMORY_MAPPING_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace ckpt {

// Makes the pages of a mapping present, as a touch of each would. 0, or an errno where a touch
// would be a SIGBUS: the file has no such page, or the device cannot read it.
int PopulatePages(const std::byte* data, uint64_t bytes, bool writable);

// Thread-safe.
class Mapping {
 public:
  // The descriptor may be closed afterwards. FAILED_PRECONDITION: the file is shorter than
  // `length`; RESOURCE_EXHAUSTED or INTERNAL: what mmap said.
  static absl::StatusOr<std::shared_ptr<Mapping>> Map(int descriptor, uint64_t length,
                                                      bool writable);
  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  std::byte* data() const { return data_; }
  uint64_t length() const { return length_; }

  // Makes [offset, offset + bytes) present. The first time for each 2 MiB granule it asks the
  // kernel, afterwards it costs nothing. DATA_LOSS: the file has no such page (somebody truncated
  // it).
  absl::Status Populate(uint64_t offset, uint64_t bytes);
  bool populated() const { return missing_granules_.load(std::memory_order_acquire) == 0; }

 private:
  Mapping(std::byte* data, uint64_t length, bool writable);
  absl::Status PopulateRange(uint64_t offset, uint64_t bytes);

  std::byte* const data_;
  const uint64_t length_;
  const bool writable_;
  const uint64_t granules_;
  std::unique_ptr<std::atomic<bool>[]> present_;  // by granule
  std::atomic<uint64_t> missing_granules_;
};

}  // namespace ckpt

#endif  // CKPT_CLIENT_MEMORY_MAPPING_H_
