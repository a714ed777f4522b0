// PlanRestore, in order:
//
//   1. check the request; find its session
//   2. resolve the selector: `latest` waits until what is staged has settled; all ranks of a
//      restore group get one answer
//   3. read the parts' manifests and merge their leaves; send the header, then the leaves
//   4. per part: reference its data files (deletion then waits for the plan) and its memory copy
//      (which then is not recycled), push the descriptors over the session, then send the pieces.
//      A checkpoint deleted before its files were referenced is NOT_FOUND.
//   5. the plan is open before its last piece is sent, until it is released, its session ends or
//      its lease runs out; if the stream breaks it is released at once
//
// Keys named exactly that are not there are NOT_FOUND for callers without a session (tools); a
// caller with one is a client library, which compares the whole plan with what it wants.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/checkpoint_id.h"
#include "common/dtype.h"
#include "common/limits.h"
#include "common/status_macros.h"
#include "server/observe/log.h"
#include "server/rpc/checkpoint_info.h"
#include "server/rpc/leaf_merge.h"
#include "server/rpc/part_manifest.h"
#include "server/rpc/piece_range.h"
#include "server/rpc/restore.h"

namespace ckpt {
namespace {

constexpr size_t kBatchBytesMax = 1 << 20;
constexpr absl::Duration kSettleTimeoutDefault = absl::Minutes(10);
constexpr absl::Duration kSettleTimeoutMax = absl::Hours(24);
constexpr uint32_t kLeaseSecondsDefault = 60;
constexpr uint32_t kLeaseSecondsMax = 24 * 3600;
// Manifests of a checkpoint are kept between the two passes up to this size, then read again.
constexpr uint64_t kManifestsKeptBytesMax = 64 << 20;

absl::StatusOr<absl::Duration> SettleTimeout(const v1::PlanRestoreRequest& request) {
  if (!request.has_settle_timeout()) return kSettleTimeoutDefault;
  const auto& proto = request.settle_timeout();
  const absl::Duration timeout = absl::Seconds(proto.seconds()) + absl::Nanoseconds(proto.nanos());
  if (timeout < absl::ZeroDuration() || timeout > kSettleTimeoutMax) {
    return absl::InvalidArgumentError(absl::StrCat("settle_timeout must be from 0 to ",
                                                   absl::FormatDuration(kSettleTimeoutMax),
                                                   ", got ", absl::FormatDuration(timeout)));
  }
  return timeout;
}

// One call of PlanRestore.
class Planning {
 public:
  Planning(Restore& restore, const v1::PlanRestoreRequest& request, Cancelled cancelled,
           SendTo<v1::PlanRestoreResponse> send)
      : restore_(restore), request_(request), cancelled_(cancelled), send_(send) {}

  absl::Status Run() {
    CKPT_RETURN_IF_ERROR(CheckRequest());
    CKPT_ASSIGN_OR_RETURN(record_, Resolve());
    CKPT_ASSIGN_OR_RETURN(uid_, UidOf(record_));
    CKPT_ASSIGN_OR_RETURN(LeafMerge merge, LeafMerge::Create(request_.selection()));
    CKPT_RETURN_IF_ERROR(MergeParts(merge));
    if (session_ == nullptr) CKPT_RETURN_IF_ERROR(merge.CheckNamedKeys());
    plan_ = std::make_shared<OpenPlan>(restore_.folder);
    CKPT_RETURN_IF_ERROR(SendHeader());
    CKPT_RETURN_IF_ERROR(SendLeaves(merge));
    if (request_.leaves_only()) return absl::OkStatus();
    for (int i = 0; i < record_.manifest.parts_size(); ++i) {
      CKPT_RETURN_IF_ERROR(SendPart(merge, i));
    }
    // Open before the last message: a caller may read, or release, as soon as it has that.
    const PlanId id = plan_->id();
    CKPT_RETURN_IF_ERROR(restore_.plans->Add(std::move(plan_), session_, lease_));
    if (!FlushPieces()) {
      restore_.plans->Release(id);
      return CallerHasGone();
    }
    return absl::OkStatus();
  }

 private:
  absl::Status CheckRequest() {
    CKPT_RETURN_IF_ERROR(ValidateSelector(request_.selector()));
    CKPT_ASSIGN_OR_RETURN(settle_timeout_, SettleTimeout(request_));
    if (request_.lease_seconds() > kLeaseSecondsMax) {
      return absl::InvalidArgumentError(absl::StrCat(
          "lease_seconds must be at most ", kLeaseSecondsMax, ", got ", request_.lease_seconds()));
    }
    lease_ = absl::Seconds(request_.lease_seconds() == 0 ? kLeaseSecondsDefault
                                                         : request_.lease_seconds());
    if (!request_.session_token().empty()) {
      if (restore_.sessions != nullptr) {
        session_ = restore_.sessions->Find(request_.session_token());
      }
      if (session_ == nullptr) {
        return absl::UnauthenticatedError(
            "session_token is of no open session; connect to the session socket again");
      }
    }
    return absl::OkStatus();
  }

  absl::StatusOr<CheckpointRecord> ResolveNow() {
    const v1::Selector& selector = request_.selector();
    if (selector.has_latest() || selector.has_latest_valid()) {
      CKPT_RETURN_IF_ERROR(
          restore_.live->WaitSettled(selector.run(), absl::Now() + settle_timeout_, cancelled_));
    }
    return restore_.finder->Find(selector, cancelled_);
  }

  absl::StatusOr<CheckpointRecord> Resolve() {
    if (!request_.has_group()) return ResolveNow();
    return restore_.groups->Answer(
        request_.group(), request_.selector(),
        session_ != nullptr ? session_->token().bytes() : std::string(),
        [this] { return ResolveNow(); },
        [this](CheckpointUid uid) { return restore_.index->GetCheckpoint(uid); });
  }

  using Part = CommittedPart;

  absl::StatusOr<std::shared_ptr<const Part>> ReadOnePart(int number) {
    CKPT_ASSIGN_OR_RETURN(CommittedPart part, ReadPart(restore_.index, restore_.folder, uid_,
                                                       record_.manifest.parts(number)));
    return std::make_shared<const Part>(std::move(part));
  }

  absl::Status MergeParts(LeafMerge& merge) {
    uint64_t kept_bytes = 0;
    kept_.resize(record_.manifest.parts_size());
    for (int i = 0; i < record_.manifest.parts_size(); ++i) {
      if (cancelled_()) return CallerHasGone();
      CKPT_ASSIGN_OR_RETURN(const auto part, ReadOnePart(i));
      CKPT_RETURN_IF_ERROR(
          merge.Add(part->manifest.rank(), *part->layout, part->manifest.values()));
      kept_bytes += part->manifest.ByteSizeLong();
      if (kept_bytes <= kManifestsKeptBytesMax) kept_[i] = part;
    }
    return absl::OkStatus();
  }

  absl::Status SendHeader() {
    v1::PlanRestoreResponse response;
    response.mutable_header()->set_plan_id(plan_->id().bytes());
    *response.mutable_header()->mutable_checkpoint() = InfoOf(record_, *restore_.memory);
    return send_(response) ? absl::OkStatus() : CallerHasGone();
  }

  absl::Status SendLeaves(const LeafMerge& merge) {
    v1::PlanRestoreResponse response;
    size_t bytes = 0;
    for (const v1::PlannedLeaf& leaf : merge.leaves()) {
      *response.mutable_leaves()->add_leaves() = leaf;
      bytes += leaf.ByteSizeLong() + 8;
      if (bytes < kBatchBytesMax) continue;
      if (cancelled_() || !send_(response)) return CallerHasGone();
      response.mutable_leaves()->clear_leaves();
      bytes = 0;
    }
    if (bytes > 0 && !send_(response)) return CallerHasGone();
    return absl::OkStatus();
  }

  bool FlushPieces() {
    if (batch_.pieces().pieces_size() == 0) return true;
    const bool sent = !cancelled_() && send_(batch_);
    batch_.mutable_pieces()->clear_pieces();
    batch_bytes_ = 0;
    return sent;
  }

  // Step 4 for one part. The batch at hand may still hold pieces when it returns.
  absl::Status SendPart(const LeafMerge& merge, int number) {
    std::shared_ptr<const Part> part = std::exchange(kept_[number], nullptr);
    if (part == nullptr) {
      CKPT_ASSIGN_OR_RETURN(part, ReadOnePart(number));
    }
    const PartLayout& layout = *part->layout;
    // Which shards are needed decides which files are.
    std::vector<std::pair<uint32_t, BlockRange>> needed;
    absl::flat_hash_set<uint32_t> files;
    for (uint32_t s = 0; s < layout.shards().size(); ++s) {
      const v1::Shard& shard = layout.proto().shards(static_cast<int>(s));
      const uint32_t leaf = merge.numbers(number)[shard.leaf()];
      if (leaf == LeafMerge::kNotNeeded) continue;
      const auto blocks = NeededBlocks(merge.need(leaf), Box::FromProto(shard.box()),
                                       DTypeBytes(layout.proto().leaves(shard.leaf()).dtype()),
                                       layout.shards()[s].length);
      if (!blocks) continue;
      needed.emplace_back(s, *blocks);
      files.insert(layout.shards()[s].file);
    }
    if (needed.empty()) return absl::OkStatus();

    PartPlaces places;
    CKPT_RETURN_IF_ERROR(Reference(part->manifest, files, places));
    for (const auto& [s, blocks] : needed) {
      AddPiece(*part, merge.numbers(number)[layout.proto().shards(static_cast<int>(s)).leaf()], s,
               blocks, places);
      if (batch_bytes_ >= kBatchBytesMax && !FlushPieces()) return CallerHasGone();
    }
    return absl::OkStatus();
  }

  // Where the bytes of a part lie, in the plan's terms.
  struct PartPlaces {
    uint32_t memory = 0;
    const MemoryPin* pin = nullptr;
    std::vector<uint32_t> disk;  // by data file
    std::vector<FileId> disk_ids;
  };

  absl::Status Reference(const v1::PartManifest& manifest,
                         const absl::flat_hash_set<uint32_t>& files, PartPlaces& places) {
    places.disk.resize(manifest.files_size());
    places.disk_ids.resize(manifest.files_size());
    for (uint32_t f = 0; f < static_cast<uint32_t>(manifest.files_size()); ++f) {
      if (!files.contains(f)) continue;
      const v1::DataFile& entry = manifest.files(static_cast<int>(f));
      CKPT_ASSIGN_OR_RETURN(places.disk_ids[f], FileId::FromBytes(entry.file_id(), "file_id"));
      const absl::StatusOr<uint32_t> added = plan_->AddDiskFile(places.disk_ids[f]);
      if (absl::IsNotFound(added.status())) return DeletedMeanwhile();
      CKPT_RETURN_IF_ERROR(added.status());
      places.disk[f] = *added;
    }
    places.memory = plan_->AddMemory(restore_.memory->Pin(uid_, manifest.rank()));
    places.pin = plan_->memory(places.memory);
    if (session_ == nullptr) return absl::OkStatus();
    // The grants go out before the pieces that name them.
    if (places.pin != nullptr) {
      CKPT_RETURN_IF_ERROR(session_->Grant(places.pin->file_id(), v1::FILE_ACCESS_READ,
                                           places.pin->length(),
                                           places.pin->read_only_descriptor()));
    }
    for (const uint32_t f : files) {
      const absl::StatusOr<const ReadableFile*> file = plan_->disk_file(places.disk[f]);
      // A file that cannot be opened is a loss only where the memory tier has no copy of it.
      if (!file.ok() && places.pin != nullptr) {
        observe::Error("data file cannot be opened: serving from memory alone",
                       {{"file", places.disk_ids[f].hex()}, {"error", file.status()}});
        places.disk_ids[f] = FileId();
        continue;
      }
      if (absl::IsNotFound(file.status())) return DeletedMeanwhile();
      CKPT_RETURN_IF_ERROR(file.status());
      if ((*file)->descriptor() < 0) continue;
      CKPT_RETURN_IF_ERROR(session_->Grant(places.disk_ids[f], v1::FILE_ACCESS_READ,
                                           (*file)->size(), (*file)->descriptor()));
    }
    return absl::OkStatus();
  }

  absl::Status DeletedMeanwhile() const {
    return absl::NotFoundError(absl::StrCat(record_.manifest.id().run(), "@",
                                            record_.manifest.id().step(),
                                            " was deleted while it was being planned"));
  }

  void AddPiece(const Part& part, uint32_t leaf_number, uint32_t s, const BlockRange& blocks,
                const PartPlaces& places) {
    const PartLayout& layout = *part.layout;
    const PartLayout::ShardPlace& place = layout.shards()[s];
    const v1::DataFile& file = part.manifest.files(static_cast<int>(place.file));
    const uint64_t disk_offset =
        file.header_length() + place.part_offset - layout.files()[place.file].part_offset;

    if (batch_bytes_ > 0 && batch_bytes_ + blocks.count * 8 > kBatchBytesMax) {
      // Large pieces travel alone; a failed send is noticed by the next flush.
      if (!FlushPieces()) return;
    }
    v1::Piece* piece = batch_.mutable_pieces()->add_pieces();
    piece->set_leaf_number(leaf_number);
    *piece->mutable_box() = layout.proto().shards(static_cast<int>(s)).box();
    const FileId disk_id = places.disk_ids[place.file];
    if (places.pin != nullptr) {
      piece->set_tier(v1::TIER_MEMORY);
      piece->set_file_id(places.pin->file_id().bytes());
      piece->set_file_offset(place.part_offset);
      if (!disk_id.none()) {
        piece->set_disk_file_id(disk_id.bytes());
        piece->set_disk_file_offset(disk_offset);
      }
    } else {
      piece->set_tier(v1::TIER_DISK);
      piece->set_file_id(disk_id.bytes());
      piece->set_file_offset(disk_offset);
    }
    piece->set_length(place.length);
    piece->set_piece_number(static_cast<uint32_t>(plan_->pieces().size()));
    piece->set_block_bytes(part.manifest.block_bytes());
    piece->set_first_block(blocks.first);
    for (uint64_t b = blocks.first; b < blocks.first + blocks.count; ++b) {
      piece->add_block_hashes(part.manifest.block_hashes(static_cast<int>(place.first_block + b)));
    }
    plan_->AddPiece(
        {place.length, places.memory, places.disk[place.file], place.part_offset, disk_offset});
    batch_bytes_ += piece->ByteSizeLong() + 8;
  }

  Restore& restore_;
  const v1::PlanRestoreRequest& request_;
  const Cancelled cancelled_;
  const SendTo<v1::PlanRestoreResponse> send_;
  std::shared_ptr<Session> session_;
  absl::Duration settle_timeout_;
  absl::Duration lease_;
  CheckpointRecord record_;
  CheckpointUid uid_;
  std::vector<std::shared_ptr<const Part>> kept_;
  std::shared_ptr<OpenPlan> plan_;
  v1::PlanRestoreResponse batch_;
  size_t batch_bytes_ = 0;
};

}  // namespace

absl::Status PlanRestore(Restore& restore, const v1::PlanRestoreRequest& request,
                         Cancelled cancelled, SendTo<v1::PlanRestoreResponse> send) {
  return Planning(restore, request, cancelled, send).Run();
}

}  // namespace ckpt
