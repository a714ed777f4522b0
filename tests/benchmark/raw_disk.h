// What the disk gives to a program that does nothing else: large O_DIRECT writes of new files, and
// reads of files that no cache holds. The best setting of each is found once and then kept.
#ifndef CKPT_TESTS_BENCHMARK_RAW_DISK_H_
#define CKPT_TESTS_BENCHMARK_RAW_DISK_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace ckpt::bench {

struct RawSetting {
  uint64_t block_bytes = 0;
  int threads = 0;
  bool direct = true;
  std::string ToString() const;  // "8 MiB blocks, 4 threads, O_DIRECT"
};

// Writes `bytes` into a new file of `folder`, preallocated, with O_DIRECT, and fdatasync: those of
// `data` (page-aligned, populated, at least a block), over and over; then two new files of 4 KiB,
// each with fdatasync, as many as a checkpoint of one part makes. Returns the seconds of that; the
// files are removed afterwards.
absl::StatusOr<double> RawWrite(const std::string& folder, absl::Span<const std::byte> data,
                                uint64_t bytes, const RawSetting& setting);
absl::StatusOr<RawSetting> CalibrateWrite(const std::string& folder,
                                          absl::Span<const std::byte> data, uint64_t bytes);

// Drops the files' pages from the cache. FAILED_PRECONDITION where some stay.
absl::Status DropFromCache(const std::vector<std::string>& files);

// Reads the files, one after another, into `out` (page-aligned, populated, `out_bytes` long; begins
// again where it is full). Their pages must have been dropped. `add_up`: each thread also adds up
// the words of every block that it has read, the least that anybody does with bytes. Seconds.
absl::StatusOr<double> RawRead(const std::vector<std::string>& files, std::byte* out,
                               uint64_t out_bytes, const RawSetting& setting, bool add_up = false);
absl::StatusOr<RawSetting> CalibrateRead(const std::vector<std::string>& files, std::byte* out,
                                         uint64_t out_bytes);

// One read of the 4 KiB around `offset`, past the page cache; seconds.
absl::StatusOr<double> RawReadPage(const std::string& file, uint64_t offset);

// One 4 KiB append to an open file, and fdatasync; seconds of each of `count`.
absl::StatusOr<std::vector<double>> AppendLatencies(const std::string& folder, int count);

}  // namespace ckpt::bench

#endif  // CKPT_TESTS_BENCHMARK_RAW_DISK_H_
