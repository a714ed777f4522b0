#include "client/restore/read_schedule.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "common/dtype.h"
#include "common/key.h"
#include "common/layout.h"

namespace ckpt {
namespace {

constexpr uint64_t kExtentBytesMax = uint64_t{4} << 20;
constexpr uint64_t kBatchBytesMax = uint64_t{8} << 20;
// A little work is cut finer, so that all readers have some of it from the start to the end and
// fill small buffers, which cost their pages' clearing.
constexpr uint64_t kBatchBytesMin = uint64_t{1} << 20;
constexpr uint64_t kBatchesWanted = 16;
constexpr size_t kBatchExtentsMax = 400;  // two buffers each still fit in one preadv
constexpr uint64_t kGapBytesMax = uint64_t{64} << 10;
constexpr size_t kProblemsShownMax = 20;

// Collects what is wrong with the targets; one error tells all of it. Data that is lost is the
// worst: no other request brings it back.
class Problems {
 public:
  void Add(absl::StatusCode code, std::string text) {
    if (count_++ == 0 || code == absl::StatusCode::kDataLoss) code_ = code;
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

// Bytes [begin, end) of a piece, on block boundaries, that a copy touches.
struct Touched {
  uint64_t begin;
  uint64_t end;
  uint32_t copy;  // index into ReadSchedule::copies
};

void AddTouched(const RunGrid& runs, uint32_t copy, const StoredPiece& piece,
                std::vector<Touched>& touched) {
  const uint64_t block_bytes = piece.block_bytes;
  for (uint64_t run = 0; run < runs.count();) {
    const uint64_t source = runs.SourceAt(run);
    const uint64_t begin = source / block_bytes * block_bytes;
    const uint64_t end = std::min(
        piece.length, (source + runs.run_bytes() + block_bytes - 1) / block_bytes * block_bytes);
    touched.push_back({begin, end, copy});
    run = std::max(run + 1, runs.FirstEndingAfter(end));
  }
}

struct Interval {
  uint64_t begin;
  uint64_t end;
};

// Disjoint, not even adjacent, ascending.
std::vector<Interval> Merged(std::vector<Touched>& touched) {
  std::sort(touched.begin(), touched.end(),
            [](const Touched& a, const Touched& b) { return a.begin < b.begin; });
  std::vector<Interval> merged;
  for (const Touched& one : touched) {
    if (!merged.empty() && one.begin <= merged.back().end) {
      merged.back().end = std::max(merged.back().end, one.end);
    } else {
      merged.push_back({one.begin, one.end});
    }
  }
  return merged;
}

std::string Describe(const v1::PlannedLeaf& leaf, const Box& region) {
  return absl::StrCat(PrintKey(leaf.leaf().key()), " ", region.ToString());
}

// A replicated tensor is everybody's. One of each rank's own is its rank's, unless more ranks read
// than have saved, or the caller says that they read each other's. Of a sharded one each rank wants
// its share, unless it asks for so much that by counting alone others must want the same. A quarter
// more than the share is an uneven split.
bool WantedByOthers(const PlannedPieces& plan, const v1::Leaf& leaf, double asked_elements) {
  if (plan.ranks_together < 2) return false;
  if (leaf.placement() == v1::PLACEMENT_PER_RANK) {
    const bool wrapped = plan.ranks_saved > 0 && plan.ranks_together > plan.ranks_saved;
    return plan.per_rank_shared || wrapped;
  }
  if (leaf.placement() != v1::PLACEMENT_SHARDED) {
    return leaf.placement() == v1::PLACEMENT_REPLICATED;
  }
  const Box whole = Box::Whole(
      absl::MakeConstSpan(leaf.shape().data(), static_cast<size_t>(leaf.shape_size())));
  return asked_elements * plan.ranks_together > 1.25 * static_cast<double>(whole.volume());
}

uint64_t BatchBytes(uint64_t all_bytes) {
  return std::clamp(all_bytes / kBatchesWanted, kBatchBytesMin, kBatchBytesMax);
}

// The targets against the pieces, and what comes of it, piece by piece.
class Scheduling {
 public:
  Scheduling(const PlannedPieces& plan, absl::Span<const ReadTarget> targets)
      : plan_(plan), targets_(targets) {}

  absl::StatusOr<ReadSchedule> Run() {
    for (uint32_t i = 0; i < targets_.size(); ++i) AddTarget(i);
    for (const auto& [number, copies] : copies_) AddPiece(number, copies);
    if (const absl::Status status = problems_.ToStatus(); !status.ok()) return status;
    return std::move(schedule_);
  }

 private:
  bool Note(const absl::Status& status) {
    if (!status.ok()) problems_.Add(status.code(), std::string(status.message()));
    return status.ok();
  }

  // Intersects it with the pieces of its leaf, which do not overlap: they cover it if they hold as
  // many elements as it has.
  void AddTarget(uint32_t number) {
    const ReadTarget& target = targets_[number];
    const Box& region = target.region;
    if (!Note(CheckRegion(plan_.leaves, target.leaf_number, region)) || region.empty()) return;
    const v1::PlannedLeaf& leaf = plan_.leaves[target.leaf_number];
    if (target.out == nullptr) {
      Note(absl::InvalidArgumentError(absl::StrCat(Describe(leaf, region), ": no buffer")));
      return;
    }
    const uint32_t holder = leaf.has_alias_of() ? leaf.alias_of() : target.leaf_number;
    const uint64_t element_bytes = DTypeBytes(leaf.leaf().dtype());
    uint64_t covered = 0;
    plan_.pieces_of_leaf[holder].ForEachMeeting(plan_.pieces, region, [&](uint32_t piece) {
      const Box& box = plan_.pieces[piece].box;
      const Box common = *Intersect(region, box);
      covered += common.volume();
      copies_[piece].push_back(static_cast<uint32_t>(schedule_.copies.size()));
      schedule_.copies.push_back({number, RunGrid(common, box, region, element_bytes)});
    });
    asked_[holder] += static_cast<double>(region.volume());
    schedule_.bytes_asked += region.volume() * element_bytes;
    if (covered == region.volume()) return;
    Note(absl::FailedPreconditionError(
        absl::StrCat(Describe(leaf, region), ": the stored boxes of this plan hold ", covered,
                     " of ", region.volume(), " elements")));
  }

  // The blocks of one piece that its copies touch, cut into extents; each extent knows its copies.
  void AddPiece(uint32_t number, absl::Span<const uint32_t> copies) {
    const StoredPiece& stored = plan_.pieces[number];
    if (!Note(CheckReadable(plan_.leaves, stored))) return;
    const uint32_t holder = stored.leaf_number;
    const bool wanted = WantedByOthers(plan_, plan_.leaves[holder].leaf(), asked_[holder]);
    std::vector<Touched> touched;
    for (const uint32_t copy : copies) {
      AddTouched(schedule_.copies[copy].runs, copy, stored, touched);
    }
    const uint64_t extent_bytes = std::min(kExtentBytesMax, BatchBytes(schedule_.bytes_asked));
    const uint64_t step =
        std::max<uint64_t>(extent_bytes / stored.block_bytes, 1) * stored.block_bytes;
    const size_t first = schedule_.extents.size();
    for (const Interval& interval : Merged(touched)) {
      if (!Note(CheckSelected(plan_.leaves, stored, interval.begin, interval.end))) return;
      for (uint64_t at = interval.begin; at < interval.end; at += step) {
        schedule_.extents.push_back(
            {number, at, std::min(step, interval.end - at), 0, 0, wanted});
      }
    }
    GiveCopies(absl::MakeSpan(schedule_.extents).subspan(first), touched);
  }

  // Sorts what was touched by extent. Both are ascending.
  void GiveCopies(absl::Span<Extent> extents, absl::Span<const Touched> touched) {
    std::vector<std::pair<uint32_t, uint32_t>> pairs;  // extent, copy
    size_t first = 0;
    for (const Touched& one : touched) {
      while (extents[first].begin + extents[first].bytes <= one.begin) ++first;
      for (size_t e = first; e < extents.size() && extents[e].begin < one.end; ++e) {
        pairs.emplace_back(static_cast<uint32_t>(e), one.copy);
      }
    }
    std::sort(pairs.begin(), pairs.end());
    pairs.erase(std::unique(pairs.begin(), pairs.end()), pairs.end());
    size_t next = 0;
    for (uint32_t e = 0; e < extents.size(); ++e) {
      extents[e].first_copy = static_cast<uint32_t>(schedule_.copies_of_extents.size());
      for (; next < pairs.size() && pairs[next].first == e; ++next) {
        schedule_.copies_of_extents.push_back(pairs[next].second);
      }
      extents[e].copy_count = static_cast<uint32_t>(schedule_.copies_of_extents.size()) -
                              extents[e].first_copy;
    }
  }

  const PlannedPieces& plan_;
  const absl::Span<const ReadTarget> targets_;
  ReadSchedule schedule_;
  Problems problems_;
  std::map<uint32_t, std::vector<uint32_t>> copies_;    // by piece: indices of copies
  absl::flat_hash_map<uint32_t, double> asked_;         // by holder: elements
};

}  // namespace

absl::Status CheckRegion(absl::Span<const v1::PlannedLeaf> leaves, uint32_t leaf_number,
                         const Box& region) {
  if (leaf_number >= leaves.size()) {
    return absl::InvalidArgumentError(absl::StrCat("leaf ", leaf_number, " of ", leaves.size()));
  }
  const v1::PlannedLeaf& leaf = leaves[leaf_number];
  if (!IsTensorKind(leaf.leaf().kind())) {
    return absl::InvalidArgumentError(
        absl::StrCat(PrintKey(leaf.leaf().key()), " is not a tensor: nothing to read"));
  }
  const auto shape = absl::MakeConstSpan(leaf.leaf().shape().data(),
                                         static_cast<size_t>(leaf.leaf().shape_size()));
  if (const absl::Status valid = ValidateBox(region, shape); !valid.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(Describe(leaf, region), ": ", valid.message()));
  }
  return absl::OkStatus();
}

absl::Status CheckSelected(absl::Span<const v1::PlannedLeaf> leaves, const StoredPiece& piece,
                           uint64_t begin, uint64_t end) {
  const uint64_t first = begin / piece.block_bytes;
  const uint64_t last = (end - 1) / piece.block_bytes;
  const uint64_t known_end = piece.first_block + piece.block_hashes.size();
  if (first >= piece.first_block && last < known_end) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(KeyOf(leaves, piece), " ", piece.box.ToString(),
                   ": the plan's selection did not ask for this region"));
}

absl::Status CheckReadable(absl::Span<const v1::PlannedLeaf> leaves, const StoredPiece& piece) {
  if (piece.unreadable == nullptr) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat(KeyOf(leaves, piece), " ", piece.box.ToString(), ": ", *piece.unreadable));
}

absl::StatusOr<ReadSchedule> MakeReadSchedule(const PlannedPieces& plan,
                                              absl::Span<const ReadTarget> targets) {
  return Scheduling(plan, targets).Run();
}

uint64_t FileOffset(const StoredPiece& piece, const Extent& extent, bool use_disk) {
  const bool second = use_disk && piece.in_memory;
  return extent.begin + (second ? piece.disk_file_offset : piece.file_offset);
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
    places.push_back({piece.in_memory && !use_disk,
                      piece.in_memory && use_disk ? piece.disk_file : piece.file,
                      FileOffset(piece, extent, use_disk), number});
  }
  std::sort(places.begin(), places.end(), [](const Place& a, const Place& b) {
    return std::tie(b.from_memory, a.file, a.offset) < std::tie(a.from_memory, b.file, b.offset);
  });
  uint64_t all_bytes = 0;
  for (const uint32_t number : chosen) all_bytes += extents[number].bytes;
  const uint64_t batch_bytes = BatchBytes(all_bytes);
  std::vector<Batch> batches;
  for (const Place& place : places) {
    const uint64_t end = place.offset + extents[place.extent].bytes;
    Batch* last = batches.empty() ? nullptr : &batches.back();
    const bool joins =
        last != nullptr && last->file == place.file && last->from_memory == place.from_memory &&
        place.offset >= last->file_offset + last->bytes &&
        place.offset - (last->file_offset + last->bytes) <= kGapBytesMax &&
        end - last->file_offset <= batch_bytes && last->extents.size() < kBatchExtentsMax;
    if (!joins) {
      batches.push_back({place.file, place.from_memory, place.offset, 0, false, {}});
      last = &batches.back();
    }
    last->wanted_by_others |= extents[place.extent].wanted_by_others;
    last->extents.push_back(place.extent);
    last->bytes = end - last->file_offset;
  }
  return batches;
}

}  // namespace ckpt
