#include "client/restore/tensor_view.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/memory/mapping.h"
#include "client/restore/run_grid.h"
#include "common/digest.h"
#include "common/dtype.h"
#include "common/key.h"
#include "common/status_macros.h"

namespace ckpt {

// Maps the blocks that hold the region, whole, so that they can be hashed.
class TensorView::Impl {
 public:
  Impl() = default;
  ~Impl() {
    if (mapped_ != nullptr) munmap(mapped_, mapped_bytes_);
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  absl::Status Map(int descriptor, uint64_t file_offset, uint64_t bytes) {
    struct stat info;
    if (fstat(descriptor, &info) != 0 ||
        static_cast<uint64_t>(info.st_size) < file_offset + bytes) {
      return absl::DataLossError(
          absl::StrCat(what, ": the file is shorter than its manifest says"));
    }
    const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
    const uint64_t lead = file_offset % page;
    // Forked children inherit it, and huge stretches of it may never be touched: no advice.
    void* const mapped = mmap(nullptr, lead + bytes, PROT_READ, MAP_SHARED, descriptor,
                              static_cast<off_t>(file_offset - lead));
    if (mapped == MAP_FAILED) {
      const std::string text = absl::StrCat(what, ": cannot be mapped: ", strerror(errno));
      return errno == ENOMEM ? absl::ResourceExhaustedError(text)
                             : absl::FailedPreconditionError(text);
    }
    mapped_ = mapped;
    mapped_bytes_ = lead + bytes;
    blocks = {static_cast<const std::byte*>(mapped) + lead, bytes};
    return absl::OkStatus();
  }

  absl::Status Verify() const {
    for (size_t i = 0; i < hashes.size(); ++i) {
      const absl::Span<const std::byte> block = blocks.subspan(i * block_bytes, block_bytes);
      // Asking for the pages first makes an error of what would be a SIGBUS.
      if (PopulatePages(block.data(), block.size(), /*writable=*/false) != 0) {
        return Damaged(i, "cannot be read from the device");
      }
      if (Xxh3(block.data(), block.size()) != hashes[i]) {
        return Damaged(i, "does not match its hash");
      }
    }
    return absl::OkStatus();
  }

  absl::Span<const std::byte> blocks;  // first to last, of the shard
  absl::Span<const std::byte> region;  // within them
  uint64_t block_bytes = 1;
  uint64_t shard_offset = 0;  // of blocks[0]
  std::vector<uint64_t> hashes;
  std::string what;  // checkpoint, key, shard, file

 private:
  absl::Status Damaged(size_t block, absl::string_view problem) const {
    return absl::DataLossError(absl::StrCat("stored block ", problem, ": ", what, ", byte offset ",
                                            shard_offset + block * block_bytes, " of it"));
  }

  void* mapped_ = nullptr;
  size_t mapped_bytes_ = 0;
};

absl::Span<const std::byte> TensorView::bytes() const { return impl_->region; }
absl::Status TensorView::Verify() const { return impl_->Verify(); }

namespace {

// The first of the equal runs that make up `region` in a dense array of `stored`.
Box FirstRun(const Box& region, const Box& stored) {
  Box run = region;
  bool whole_within = true;
  for (size_t d = region.rank(); d-- > 0;) {
    if (!whole_within) run.extent[d] = 1;
    whole_within = whole_within && region.extent[d] == stored.extent[d];
  }
  return run;
}

// The piece that holds the whole region in one run.
absl::StatusOr<const StoredPiece*> FindRun(const PlannedPieces& plan, const v1::PlannedLeaf& leaf,
                                           uint32_t holder, const Box& region) {
  const StoredPiece* found = nullptr;
  Box largest;
  uint64_t largest_volume = 0;
  plan.pieces_of_leaf[holder].ForEachMeeting(plan.pieces, region, [&](uint32_t number) {
    const StoredPiece& piece = plan.pieces[number];
    const Box run = FirstRun(*Intersect(region, piece.box), piece.box);
    if (run == region) found = &piece;
    if (run.volume() <= largest_volume) return;
    largest = run;
    largest_volume = run.volume();
  });
  if (found != nullptr) return found;
  const std::string name = absl::StrCat(PrintKey(leaf.leaf().key()), " ", region.ToString());
  if (largest_volume == 0) {
    return absl::FailedPreconditionError(
        absl::StrCat(name, ": the stored boxes of this plan hold none of it"));
  }
  return absl::FailedPreconditionError(absl::StrCat(
      name, " is not one contiguous run of one stored shard, so it cannot be viewed; the largest "
      "part of it that can is ", largest.ToString(), "; Read copies the whole of it"));
}

}  // namespace

absl::StatusOr<TensorView> MakeTensorView(const PlannedPieces& plan, const PieceSource& source,
                                          uint32_t leaf_number, const Box& region) {
  CKPT_RETURN_IF_ERROR(CheckRegion(plan.leaves, leaf_number, region));
  auto view = std::make_shared<TensorView::Impl>();
  if (region.empty()) return TensorView(std::move(view));
  const v1::PlannedLeaf& leaf = plan.leaves[leaf_number];
  const uint32_t holder = leaf.has_alias_of() ? leaf.alias_of() : leaf_number;
  CKPT_ASSIGN_OR_RETURN(const StoredPiece* const found, FindRun(plan, leaf, holder, region));
  const StoredPiece& piece = *found;
  CKPT_RETURN_IF_ERROR(CheckReadable(plan.leaves, piece));

  const FileId id = piece.in_memory ? piece.disk_file : piece.file;
  view->what = absl::StrCat("checkpoint ", source.checkpoint, ", key ", KeyOf(plan.leaves, piece),
                            ", shard ", piece.box.ToString(), ", disk file ", id.hex());
  const auto file = source.files.find(id);
  if (file == source.files.end()) {
    return absl::FailedPreconditionError(absl::StrCat(
        view->what, ": a view needs the file on this node: connect to the daemon's unix socket and "
        "plan without `stream`; the daemon's log says if it cannot open the file; or Read"));
  }
  const RunGrid run(region, piece.box, region, DTypeBytes(leaf.leaf().dtype()));
  const uint64_t begin = run.SourceAt(0);
  const uint64_t end = begin + run.run_bytes();
  CKPT_RETURN_IF_ERROR(CheckSelected(plan.leaves, piece, begin, end));
  view->block_bytes = piece.block_bytes;
  const uint64_t first_block = begin / piece.block_bytes;
  const uint64_t last_block = (end - 1) / piece.block_bytes;
  view->shard_offset = first_block * piece.block_bytes;
  const uint64_t blocks_end = std::min(piece.length, (last_block + 1) * piece.block_bytes);
  const uint64_t* hashes = piece.block_hashes.data() + (first_block - piece.first_block);
  view->hashes.assign(hashes, hashes + (last_block - first_block + 1));
  const uint64_t shard_at = piece.in_memory ? piece.disk_file_offset : piece.file_offset;
  CKPT_RETURN_IF_ERROR(view->Map(file->second->descriptor(), shard_at + view->shard_offset,
                                 blocks_end - view->shard_offset));
  view->region = view->blocks.subspan(begin - view->shard_offset, end - begin);
  return TensorView(std::move(view));
}

}  // namespace ckpt
