// Over the wire, for callers that cannot share memory with the daemon: ReadPieces answers the
// ranges in the order asked, in chunks with a CRC each; the blocks are verified here all the same.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/restore/piece_reader.h"
#include "common/digest.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

constexpr size_t kRangesPerCallMax = 64;  // 256 MiB

}  // namespace

absl::Status PieceReader::ReadStream(absl::Span<const uint32_t> extents) {
  const size_t calls = (extents.size() + kRangesPerCallMax - 1) / kRangesPerCallMax;
  CKPT_RETURN_IF_ERROR(ForEachParallel(calls, source_.threads, [&](size_t item, Scratch& scratch) {
    return ReadStreamRanges(extents.subspan(item * kRangesPerCallMax, kRangesPerCallMax), scratch);
  }));
  for (const uint32_t number : extents) {
    const Extent& extent = schedule_.extents[number];
    statistics_.bytes_read += extent.bytes;
    const bool memory = source_.pieces[extent.piece].in_memory;
    (memory ? statistics_.bytes_from_memory : statistics_.bytes_from_disk) += extent.bytes;
  }
  return absl::OkStatus();
}

std::string PieceReader::StreamOf(const Extent& extent) const {
  const StoredPiece& piece = source_.pieces[extent.piece];
  return absl::StrCat("stream of ", piece.in_memory ? "memory" : "disk", " file ",
                      piece.file.hex());
}

absl::Status PieceReader::ReadStreamRanges(absl::Span<const uint32_t> extents, Scratch& scratch) {
  v1::ReadPiecesRequest request;
  request.set_plan_id(source_.plan_id);
  uint64_t bytes_max = 0;
  for (const uint32_t number : extents) {
    const Extent& extent = schedule_.extents[number];
    v1::PieceRange* range = request.add_ranges();
    range->set_piece_number(source_.pieces[extent.piece].piece_number);
    range->set_offset(extent.begin);
    range->set_length(extent.bytes);
    bytes_max = std::max(bytes_max, extent.bytes);
  }
  reads_.fetch_add(1, std::memory_order_relaxed);
  size_t current = 0;     // the range under way
  uint64_t received = 0;  // of its bytes
  std::byte* place = nullptr;
  CKPT_RETURN_IF_ERROR(
      source_.connection->ReadPieces(request, [&](const PieceChunk& chunk) -> absl::Status {
        if (chunk.range != current || current >= extents.size()) {
          return absl::InternalError("the daemon answered the ranges in another order");
        }
        const Extent& extent = schedule_.extents[extents[current]];
        if (chunk.offset != extent.begin + received || chunk.bytes > extent.bytes - received) {
          return absl::InternalError("the daemon sent bytes that were not asked for");
        }
        std::byte* direct = DirectDestination(extent);
        if (received == 0) place = direct != nullptr ? direct : scratch.Get(bytes_max);
        if (!chunk.data->CopyTo(place + received, chunk.bytes)) {
          return absl::InternalError("a chunk of ReadPieces is shorter than it says");
        }
        if (Crc32c(0, place + received, chunk.bytes) != chunk.crc32c) {
          return Damaged(extent, chunk.offset, "was damaged on the way (CRC)", StreamOf(extent));
        }
        received += chunk.bytes;
        if (received < extent.bytes) return absl::OkStatus();
        CKPT_RETURN_IF_ERROR(Deliver(extent, place, StreamOf(extent)));
        ++current;
        received = 0;
        return absl::OkStatus();
      }));
  if (current != extents.size()) {
    return absl::InternalError("the daemon ended ReadPieces before all ranges were sent");
  }
  return absl::OkStatus();
}

}  // namespace ckpt
