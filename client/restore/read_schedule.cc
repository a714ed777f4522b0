#include "client/restore/read_schedule.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/dtype.h"
#include "common/key.h"
#include "common/layout.h"

namespace ckpt {
namespace {

constexpr uint64_t kExtentBytesMax = uint64_t{4} << 20;
constexpr uint64_t kBatchBytesMax = uint64_t{8} << 20;
constexpr size_t kBatchExtentsMax = 400;  // two buffers each still fit in one preadv
constexpr uint64_t kGapBytesMax = uint64_t{64} << 10;
constexpr size_t kProblemsShownMax = 20;

// Collects what is wrong with the targets; one error tells all of it.
class Problems {
 public:
  void Add(absl::StatusCode code, std::string text) {
    if (count_++ == 0) code_ = code;
    if (count_ <= kProblemsShownMax) absl::StrAppend(&text_, count_ > 1 ? "; " : "", text);
  }
  absl::Status ToStatus() const {
    if (count_ == 0) return absl::OkStatus();
    const size_t hidden = count_ - std::min(count_, kProblemsShownMax);
    return absl::Status(code_,
                        hidden == 0 ? text_ : absl::StrCat(text_, "; and ", hidden, " more"));
  }

 private:
  size_t count_ = 0;
  absl::StatusCode code_ = absl::StatusCode::kOk;
  std::string text_;
};

struct Interval {
  uint64_t begin;
  uint64_t end;
};

// The block-aligned intervals of the piece that the runs touch.
void AddTouched(const RunGrid& runs, uint64_t block_bytes, uint64_t length,
                std::vector<Interval>& touched) {
  for (uint64_t run = 0; run < runs.count();) {
    const uint64_t source = runs.SourceAt(run);
    const uint64_t begin = source / block_bytes * block_bytes;
    const uint64_t end =
        std::min(length, (source + runs.run_bytes() + block_bytes - 1) / block_bytes * block_bytes);
    touched.push_back({begin, end});
    run = std::max(run + 1, runs.FirstEndingAfter(end));
  }
}

void MergeIntervals(std::vector<Interval>& intervals) {
  std::sort(intervals.begin(), intervals.end(),
            [](const Interval& a, const Interval& b) { return a.begin < b.begin; });
  size_t kept = 0;
  for (const Interval& interval : intervals) {
    if (kept > 0 && interval.begin <= intervals[kept - 1].end) {
      intervals[kept - 1].end = std::max(intervals[kept - 1].end, interval.end);
    } else {
      intervals[kept++] = interval;
    }
  }
  intervals.resize(kept);
}

std::string Describe(const v1::PlannedLeaf& leaf, const ReadTarget& target) {
  return absl::StrCat(PrintKey(leaf.leaf().key()), " ", target.region.ToString());
}

absl::Status CheckTarget(absl::Span<const v1::PlannedLeaf> leaves, const ReadTarget& target) {
  if (target.leaf_number >= leaves.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("leaf ", target.leaf_number, " of ", leaves.size()));
  }
  const v1::PlannedLeaf& leaf = leaves[target.leaf_number];
  if (!IsTensorKind(leaf.leaf().kind())) {
    return absl::InvalidArgumentError(
        absl::StrCat(PrintKey(leaf.leaf().key()), " is not a tensor: nothing to read"));
  }
  const auto shape = absl::MakeConstSpan(leaf.leaf().shape().data(),
                                         static_cast<size_t>(leaf.leaf().shape_size()));
  if (const absl::Status valid = ValidateBox(target.region, shape); !valid.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(Describe(leaf, target), ": ", valid.message()));
  }
  if (target.out == nullptr && !target.region.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(Describe(leaf, target), ": no buffer"));
  }
  return absl::OkStatus();
}

using CopiesByPiece = std::map<uint32_t, std::vector<PieceCopy>>;

// Intersects one target with the pieces of its leaf. FAILED_PRECONDITION unless they cover it.
absl::Status AddTarget(const v1::PlannedLeaf& leaf, absl::Span<const StoredPiece> pieces,
                       absl::Span<const uint32_t> candidates, const ReadTarget& target,
                       uint32_t number, CopiesByPiece& copies) {
  const uint64_t element_bytes = DTypeBytes(leaf.leaf().dtype());
  uint64_t covered = 0;
  for (const uint32_t candidate : candidates) {
    const std::optional<Box> common = Intersect(target.region, pieces[candidate].box);
    if (!common.has_value()) continue;
    covered += common->volume();
    copies[candidate].push_back(
        {number, RunGrid(*common, pieces[candidate].box, target.region, element_bytes)});
  }
  if (covered == target.region.volume()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(Describe(leaf, target), ": the stored boxes of this plan hold ", covered, " of ",
                   target.region.volume(), " elements"));
}

// Every touched block must have come with its hash.
absl::Status CheckHashes(const StoredPiece& stored, const Interval& interval) {
  const v1::Piece& piece = stored.piece;
  const uint64_t first = interval.begin / piece.block_bytes();
  const uint64_t last = (interval.end - 1) / piece.block_bytes();
  const uint64_t known_end = piece.first_block() + static_cast<uint64_t>(piece.block_hashes_size());
  if (first >= piece.first_block() && last < known_end) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(stored.key, " ", stored.box.ToString(),
                   ": the plan's selection did not ask for this region"));
}

}  // namespace

absl::StatusOr<ReadSchedule> MakeReadSchedule(
    absl::Span<const v1::PlannedLeaf> leaves, absl::Span<const StoredPiece> pieces,
    absl::Span<const std::vector<uint32_t>> pieces_of_leaf, absl::Span<const ReadTarget> targets) {
  Problems problems;
  ReadSchedule schedule;
  CopiesByPiece copies;
  const auto note = [&problems](const absl::Status& status) {
    if (!status.ok()) problems.Add(status.code(), std::string(status.message()));
    return status.ok();
  };
  for (size_t i = 0; i < targets.size(); ++i) {
    const ReadTarget& target = targets[i];
    if (!note(CheckTarget(leaves, target)) || target.region.empty()) continue;
    const v1::PlannedLeaf& leaf = leaves[target.leaf_number];
    const uint32_t holder = leaf.has_alias_of() ? leaf.alias_of() : target.leaf_number;
    schedule.bytes_asked += target.region.volume() * DTypeBytes(leaf.leaf().dtype());
    note(AddTarget(leaf, pieces, pieces_of_leaf[holder], target, static_cast<uint32_t>(i), copies));
  }
  for (auto& [number, wanted] : copies) {
    const StoredPiece& stored = pieces[number];
    std::vector<Interval> touched;
    for (const PieceCopy& copy : wanted) {
      AddTouched(copy.runs, stored.piece.block_bytes(), stored.piece.length(), touched);
    }
    MergeIntervals(touched);
    const auto first_copy = static_cast<uint32_t>(schedule.copies.size());
    const auto copy_count = static_cast<uint32_t>(wanted.size());
    std::move(wanted.begin(), wanted.end(), std::back_inserter(schedule.copies));
    const uint64_t step = std::max<uint64_t>(kExtentBytesMax / stored.piece.block_bytes(), 1) *
                          stored.piece.block_bytes();
    for (const Interval& interval : touched) {
      if (!note(CheckHashes(stored, interval))) continue;
      for (uint64_t at = interval.begin; at < interval.end; at += step) {
        schedule.extents.push_back(
            {number, at, std::min(step, interval.end - at), first_copy, copy_count});
      }
    }
  }
  if (const absl::Status status = problems.ToStatus(); !status.ok()) return status;
  return schedule;
}

uint64_t FileOffset(const StoredPiece& piece, const Extent& extent, bool use_disk) {
  const bool second = use_disk && piece.piece.tier() == v1::TIER_MEMORY;
  return extent.begin + (second ? piece.piece.disk_file_offset() : piece.piece.file_offset());
}

std::vector<Batch> MakeBatches(absl::Span<const StoredPiece> pieces,
                               absl::Span<const Extent> extents, absl::Span<const uint32_t> chosen,
                               bool use_disk) {
  struct Place {
    bool from_memory;
    FileId file;
    uint64_t offset;
    uint32_t extent;
  };
  std::vector<Place> places;
  places.reserve(chosen.size());
  for (const uint32_t number : chosen) {
    const Extent& extent = extents[number];
    const StoredPiece& piece = pieces[extent.piece];
    const bool in_memory = piece.piece.tier() == v1::TIER_MEMORY;
    places.push_back({in_memory && !use_disk, in_memory && use_disk ? piece.disk_file : piece.file,
                      FileOffset(piece, extent, use_disk), number});
  }
  std::sort(places.begin(), places.end(), [](const Place& a, const Place& b) {
    return std::tie(b.from_memory, a.file, a.offset) < std::tie(a.from_memory, b.file, b.offset);
  });
  std::vector<Batch> batches;
  for (const Place& place : places) {
    const uint64_t end = place.offset + extents[place.extent].bytes;
    Batch* last = batches.empty() ? nullptr : &batches.back();
    const bool joins =
        last != nullptr && last->file == place.file && last->from_memory == place.from_memory &&
        place.offset >= last->file_offset + last->bytes &&
        place.offset - (last->file_offset + last->bytes) <= kGapBytesMax &&
        end - last->file_offset <= kBatchBytesMax && last->extents.size() < kBatchExtentsMax;
    if (!joins) {
      batches.push_back({place.file, place.from_memory, place.offset, 0, false, {}});
      last = &batches.back();
    }
    last->wanted_by_others |= pieces[extents[place.extent].piece].wanted_by_others;
    last->extents.push_back(place.extent);
    last->bytes = end - last->file_offset;
  }
  return batches;
}

}  // namespace ckpt
