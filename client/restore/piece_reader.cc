// What the three ways of reading share.
#include "client/restore/piece_reader.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/copy_kernel.h"
#include "common/digest.h"
#include "common/mutex.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

constexpr uint64_t kStepBytes = uint64_t{64} << 10;  // stays in the core's cache
constexpr size_t kAlignment = size_t{2} << 20;  // a huge page: the device is asked for long runs

}  // namespace

std::byte* PieceReader::Scratch::Get(size_t bytes) {
  if (bytes > capacity_) {
    capacity_ = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    bytes_.reset(static_cast<std::byte*>(
        ::operator new (capacity_, std::align_val_t{kAlignment})));  // uninitialised
    madvise(bytes_.get(), capacity_, MADV_HUGEPAGE);                 // where the host has them
  }
  return bytes_.get();
}

void PieceReader::Scratch::Free::operator()(std::byte* bytes) const {
  ::operator delete (bytes, std::align_val_t{kAlignment});
}

ReadStatistics PieceReader::statistics() const {
  ReadStatistics statistics = statistics_;
  statistics.reads = reads_.load(std::memory_order_relaxed);
  statistics.bytes_hashed = bytes_hashed_.load(std::memory_order_relaxed);
  return statistics;
}

std::byte* PieceReader::DirectDestination(const Extent& extent) const {
  if (extent.copy_count != 1) return nullptr;
  const PieceCopy& copy = CopyOf(extent, 0);
  const uint64_t run = copy.runs.FirstEndingAfter(extent.begin);
  if (run == copy.runs.count()) return nullptr;
  const uint64_t source = copy.runs.SourceAt(run);
  if (source > extent.begin || source + copy.runs.run_bytes() < extent.begin + extent.bytes) {
    return nullptr;
  }
  return targets_[copy.target].out + copy.runs.DestinationAt(run) + (extent.begin - source);
}

void PieceReader::Scatter(const Extent& extent, uint64_t begin, uint64_t end,
                          const std::byte* bytes) const {
  for (uint32_t i = 0; i < extent.copy_count; ++i) {
    const PieceCopy& copy = CopyOf(extent, i);
    std::byte* out = targets_[copy.target].out;
    copy.runs.ForEachWithin(begin, end,
                            [&](uint64_t source, uint64_t destination, uint64_t length) {
                              CopyStreaming(out + destination, bytes + (source - begin), length);
                            });
  }
}

uint64_t PieceReader::BlockHash(const StoredPiece& piece, uint64_t block) const {
  return piece.block_hashes[block - piece.first_block];
}

std::optional<uint64_t> PieceReader::CopyChecked(const Extent& extent,
                                                 const std::byte* bytes) const {
  const StoredPiece& piece = source_.pieces[extent.piece];
  const bool in_place = bytes == DirectDestination(extent);
  if (source_.verify) bytes_hashed_.fetch_add(extent.bytes, std::memory_order_relaxed);
  const uint64_t step = source_.verify ? kStepBytes : piece.block_bytes;
  Xxh3Stream hash;
  for (uint64_t block = 0; block < extent.bytes; block += piece.block_bytes) {
    const uint64_t end = std::min(block + piece.block_bytes, extent.bytes);
    hash.Reset();
    for (uint64_t at = block; at < end; at += step) {
      const uint64_t length = std::min(step, end - at);
      // Copied first: what a stray write to the memory tier changes later, the hash still sees.
      if (!in_place) Scatter(extent, extent.begin + at, extent.begin + at + length, bytes + at);
      if (source_.verify) hash.Update(bytes + at, length);
    }
    const uint64_t begin = extent.begin + block;
    if (source_.verify && hash.Digest() != BlockHash(piece, begin / piece.block_bytes)) {
      return begin;
    }
  }
  return std::nullopt;
}

absl::Status PieceReader::Deliver(const Extent& extent, const std::byte* bytes,
                                  absl::string_view where) const {
  const std::optional<uint64_t> bad = CopyChecked(extent, bytes);
  if (!bad.has_value()) return absl::OkStatus();
  return Damaged(extent, *bad, "does not match its hash", where);
}

absl::Status PieceReader::Damaged(const Extent& extent, uint64_t offset, absl::string_view what,
                                  absl::string_view where) const {
  const StoredPiece& piece = source_.pieces[extent.piece];
  return absl::DataLossError(
      absl::StrCat("stored block ", what, ": checkpoint ", source_.checkpoint, ", key ",
                   KeyOf(source_.leaves, piece), ", shard ", piece.box.ToString(), ", byte offset ",
                   offset, " of it, ", where));
}

absl::Status PieceReader::ForEachParallel(
    size_t items, int threads,
    absl::FunctionRef<absl::Status(size_t item, Scratch& scratch)> work) const {
  std::atomic<size_t> next{0};
  Mutex mutex;
  absl::Status first_error;
  const auto run = [&](int) {
    Scratch scratch;
    for (size_t item; (item = next.fetch_add(1, std::memory_order_relaxed)) < items;) {
      const absl::Status status = work(item, scratch);
      if (status.ok()) continue;
      next.store(items, std::memory_order_relaxed);
      MutexLock lock(mutex);
      if (first_error.ok()) first_error = status;
      break;
    }
    CopyFence();
  };
  const size_t useful = std::min(items, static_cast<size_t>(std::max(threads, 1)));
  if (useful > 0) source_.workers->RunTogether(static_cast<int>(useful), run);
  MutexLock lock(mutex);
  return first_error;
}

}  // namespace ckpt
