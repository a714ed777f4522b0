// The disk tier, in large reads by several threads.
//
// What other ranks want as well goes through the page cache, so that a node reads it once: preadv,
// with the kernel reading ahead, straight into the target where an extent goes there whole, else
// through a buffer. What is in the cache already is taken from there in the same way. Everything
// else is read past the cache into aligned buffers, which reaches the device's limit at a
// twentieth of the CPU time, and then copied.
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/uio.h>

#include <algorithm>
#include <atomic>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "client/restore/piece_reader.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

constexpr int kDiskThreadsMin = 6;  // so that four reads are in flight while two threads hash
constexpr uint64_t kReadAheadBytes = uint64_t{64} << 20;  // ahead of the reads, over all threads

constexpr uint64_t kDirectAlignment = 4096;
constexpr uint64_t kDirectBytesMin = uint64_t{1} << 20;  // smaller reads gain nothing

// Fills all of `parts` from `offset` on. OUT_OF_RANGE: the file ends before.
absl::Status ReadFully(int descriptor, uint64_t offset, std::vector<iovec> parts,
                       std::atomic<uint64_t>& reads) {
  size_t first = 0;
  while (first < parts.size()) {
    reads.fetch_add(1, std::memory_order_relaxed);
    const ssize_t got = preadv(descriptor, &parts[first],
                               static_cast<int>(std::min<size_t>(parts.size() - first, IOV_MAX)),
                               static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return absl::DataLossError(strerror(errno));
    if (got == 0) return absl::OutOfRangeError("the file is shorter than its manifest says");
    offset += static_cast<uint64_t>(got);
    auto left = static_cast<size_t>(got);
    while (first < parts.size() && left >= parts[first].iov_len) left -= parts[first++].iov_len;
    if (left > 0) {
      parts[first].iov_base = static_cast<char*>(parts[first].iov_base) + left;
      parts[first].iov_len -= left;
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status PieceReader::ReadDisk(absl::Span<const uint32_t> extents, bool use_disk) {
  const std::vector<Batch> batches =
      MakeBatches(source_.pieces, schedule_.extents, extents, use_disk);
  // Whoever takes a batch first asks the kernel for those that end the read-ahead window.
  Mutex mutex;
  size_t asked = 0;  // batches that the kernel was asked for
  uint64_t asked_bytes = 0;
  uint64_t taken_bytes = 0;
  const auto read_ahead = [&](size_t item) {
    for (;;) {
      const Batch* next = nullptr;
      {
        MutexLock lock(mutex);
        if (asked < batches.size() && asked_bytes < taken_bytes + kReadAheadBytes) {
          next = &batches[asked++];
          asked_bytes += next->bytes;
        }
      }
      if (next == nullptr) break;
      const auto file = source_.files.find(next->file);
      if (file == source_.files.end() || !next->wanted_by_others) continue;
      posix_fadvise(file->second->descriptor(), static_cast<off_t>(next->file_offset),
                    static_cast<off_t>(next->bytes), POSIX_FADV_WILLNEED);
    }
    MutexLock lock(mutex);
    taken_bytes += batches[item].bytes;
  };
  const uint64_t bytes =
      std::accumulate(batches.begin(), batches.end(), uint64_t{0},
                      [](uint64_t sum, const Batch& batch) { return sum + batch.bytes; });
  CKPT_RETURN_IF_ERROR(ForEachParallel(batches.size(), std::max(source_.threads, kDiskThreadsMin),
                                       [&](size_t item, Scratch& scratch) {
                                         read_ahead(item);
                                         return ReadDiskBatch(batches[item], use_disk, scratch);
                                       }));
  statistics_.bytes_read += bytes;
  statistics_.bytes_from_disk += bytes;
  return absl::OkStatus();
}

absl::Status PieceReader::ReadDiskBatch(const Batch& batch, bool use_disk, Scratch& scratch) {
  const auto found = source_.files.find(batch.file);
  if (found == source_.files.end()) {
    return absl::InternalError(absl::StrCat("the daemon planned file ", batch.file.hex(),
                                            " of the disk tier, but did not grant it"));
  }
  ReadFile& file = *found->second;
  const bool past_cache = !batch.wanted_by_others && batch.bytes >= kDirectBytesMin &&
                          file.direct_descriptor() >= 0 &&
                          !file.IsCached(batch.file_offset, batch.bytes);
  return past_cache ? ReadDirect(batch, file, use_disk, scratch)
                    : ReadCached(batch, file, use_disk, scratch);
}

absl::Status PieceReader::ReadCached(const Batch& batch, const ReadFile& file, bool use_disk,
                                     Scratch& scratch) {
  const Extent& first = schedule_.extents[batch.extents.front()];
  const std::string where = absl::StrCat("disk file ", batch.file.hex());
  // The batch as preadv sees it: targets, scratch, and gaps that go to scratch as well.
  std::vector<std::byte*> places;
  std::vector<iovec> parts;
  std::byte* bounce = nullptr;
  uint64_t at = batch.file_offset;
  for (const uint32_t number : batch.extents) {
    const Extent& extent = schedule_.extents[number];
    const uint64_t offset = FileOffset(source_.pieces[extent.piece], extent, use_disk);
    std::byte* direct = DirectDestination(extent);
    if ((direct == nullptr || offset > at) && bounce == nullptr) bounce = scratch.Get(batch.bytes);
    if (offset > at) parts.push_back({bounce + (at - batch.file_offset), offset - at});
    places.push_back(direct != nullptr ? direct : bounce + (offset - batch.file_offset));
    parts.push_back({places.back(), extent.bytes});
    at = offset + extent.bytes;
  }
  const absl::Status read =
      ReadFully(file.descriptor(), batch.file_offset, std::move(parts), reads_);
  if (!read.ok()) return Damaged(first, first.begin, read.message(), where);
  for (size_t i = 0; i < batch.extents.size(); ++i) {
    CKPT_RETURN_IF_ERROR(Deliver(schedule_.extents[batch.extents[i]], places[i], where));
  }
  return absl::OkStatus();
}

absl::Status PieceReader::ReadDirect(const Batch& batch, ReadFile& file, bool use_disk,
                                     Scratch& scratch) {
  const int descriptor = file.direct_descriptor();
  const Extent& first = schedule_.extents[batch.extents.front()];
  const std::string where = absl::StrCat("disk file ", batch.file.hex());
  const uint64_t begin = batch.file_offset / kDirectAlignment * kDirectAlignment;
  const uint64_t end = std::min(file.length(), batch.file_offset + batch.bytes);
  const uint64_t aligned_end = (end + kDirectAlignment - 1) / kDirectAlignment * kDirectAlignment;
  std::byte* const buffer = scratch.Get(aligned_end - begin);
  for (uint64_t at = begin; at < end;) {
    // The file's last page may be short: the read ends there, and past `end`.
    reads_.fetch_add(1, std::memory_order_relaxed);
    const ssize_t got = pread(descriptor, buffer + (at - begin), aligned_end - at,
                              static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Damaged(first, first.begin, strerror(errno), where);
    at += static_cast<uint64_t>(got);
    if (at < end && (got == 0 || at % kDirectAlignment != 0)) {
      return Damaged(first, first.begin, "lies behind the end of a file that is shorter than its "
                                         "manifest says", where);
    }
  }
  for (const uint32_t number : batch.extents) {
    const Extent& extent = schedule_.extents[number];
    const std::byte* bytes =
        buffer + (FileOffset(source_.pieces[extent.piece], extent, use_disk) - begin);
    CKPT_RETURN_IF_ERROR(Deliver(extent, bytes, where));
  }
  return absl::OkStatus();
}

}  // namespace ckpt
