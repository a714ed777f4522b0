#include "server/rpc/plan_writer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/limits.h"
#include "common/status_macros.h"
#include "server/observe/log.h"
#include "server/storage/names.h"

namespace ckpt {
namespace {

using Message = v1::PlanRestoreResponse;

constexpr size_t kBatchBytesMax = 256 << 10;

}  // namespace

absl::StatusOr<v1::PlannedLeaf*> PlanWriter::AddLeaf() {
  if (last_leaf_ != nullptr) leaves_bytes_ += last_leaf_->ByteSizeLong() + 8;
  if (leaves_bytes_ >= kBatchBytesMax) CKPT_RETURN_IF_ERROR(Flush());
  if (leaves_ == nullptr) leaves_ = google::protobuf::Arena::CreateMessage<Message>(&arena_);
  last_leaf_ = leaves_->mutable_leaves()->add_leaves();
  last_leaf_->set_leaf_number(next_leaf_++);
  return last_leaf_;
}

absl::Status PlanWriter::AddPieces(CommittedPart& part, uint32_t leaf_number,
                                   uint64_t element_bytes, size_t dimensions, const Need& need) {
  CKPT_RETURN_IF_ERROR(part.leaf().ReadShards(shards_));
  for (const LeafShard& shard : shards_) {
    if (shard.box.rank() != dimensions) {
      return absl::DataLossError(absl::StrCat("rank ", part.rank(), " stores '",
                                              part.leaf().printed_key(), "' with ",
                                              shard.box.rank(), " dimensions, it has ",
                                              dimensions));
    }
    const auto blocks = NeededBlocks(need, shard.box, element_bytes, shard.length);
    if (blocks) CKPT_RETURN_IF_ERROR(AddPiece(part, leaf_number, shard, *blocks));
  }
  return absl::OkStatus();
}

absl::Status PlanWriter::Flush() {
  if (cancelled_()) return CallerHasGone();
  for (const Message* const message : {leaves_, pieces_}) {
    if (message != nullptr && !send_(*message)) return CallerHasGone();
  }
  leaves_ = pieces_ = nullptr;
  last_leaf_ = nullptr;
  leaves_bytes_ = pieces_bytes_ = 0;
  arena_.Reset();
  return absl::OkStatus();
}

absl::StatusOr<PlanWriter::PartPlace*> PlanWriter::PlaceOf(const CommittedPart& part) {
  const auto [it, inserted] = places_.try_emplace(part.rank());
  PartPlace& place = it->second;
  if (!inserted) return &place;
  if (plan_ == nullptr) {
    place.in_memory = memory_->Has(uid_, part.rank());
    return &place;
  }
  place.memory = plan_->AddMemory(part.rank(), memory_->Pin(uid_, part.rank()));
  place.pin = plan_->memory(place.memory);
  place.in_memory = place.pin != nullptr;
  place.files.resize(static_cast<size_t>(part.head().files_size()));
  if (session_ != nullptr && place.in_memory) {
    CKPT_RETURN_IF_ERROR(session_->Grant(place.pin->file_id(), v1::FILE_ACCESS_READ,
                                         place.pin->length(), place.pin->read_only_descriptor()));
  }
  return &place;
}

absl::Status PlanWriter::ReferenceFile(const CommittedPart& part, const LeafShard& shard,
                                       PartPlace& place) {
  CKPT_ASSIGN_OR_RETURN(const v1::DataFile* entry, part.file(shard.file));
  FilePlace& file = place.files[shard.file];
  if (std::exchange(file.known, true)) return absl::OkStatus();
  CKPT_ASSIGN_OR_RETURN(file.disk_id, FileId::FromBytes(entry->file_id(), "file_id"));
  const uint64_t shift = entry->header_length() + shard.region_offset - shard.part_offset;
  file.disk = plan_->AddDiskFile(file.disk_id, place.memory, shift);
  absl::Status status = plan_->PinDiskFile(file.disk);
  if (absl::IsNotFound(status)) {
    status = part.Damage(absl::StrCat(names::DataFile(file.disk_id), " is missing on disk"));
  }
  const ReadableFile* opened = nullptr;
  if (status.ok() && session_ != nullptr) {
    const absl::StatusOr<const ReadableFile*> open = plan_->disk_file(file.disk);
    status = open.status();
    if (open.ok()) opened = *open;
  }
  // A file that cannot be opened is a loss only where the memory tier has no copy of it.
  if (!status.ok() && !absl::IsNotFound(status) && place.in_memory) {
    observe::Error("data file cannot be opened: serving from memory alone",
                   {{"file", file.disk_id.hex()}, {"error", status}});
    file.disk_id = FileId();
    return absl::OkStatus();
  }
  // A client library compares the whole plan with what it wants, and tells of everything together.
  if (absl::IsDataLoss(status) && session_ != nullptr) {
    observe::Error("planned without a data file",
                   {{"file", file.disk_id.hex()}, {"error", status}});
    file.unreadable = std::string(status.message());
    return absl::OkStatus();
  }
  CKPT_RETURN_IF_ERROR(status);
  if (opened == nullptr || opened->descriptor() < 0) return absl::OkStatus();
  return session_->Grant(file.disk_id, v1::FILE_ACCESS_READ, opened->size(), opened->descriptor());
}

absl::Status PlanWriter::AddPiece(CommittedPart& part, uint32_t leaf_number,
                                  const LeafShard& shard, const BlockRange& blocks) {
  CKPT_ASSIGN_OR_RETURN(PartPlace* const place, PlaceOf(part));
  const uint64_t block_bytes = part.head().block_bytes();
  const uint64_t begin = blocks.first * kHashBlockBytes;
  (place->in_memory ? bytes_from_memory_ : bytes_from_disk_) +=
      std::min(shard.length - begin, blocks.count * kHashBlockBytes);
  if (plan_ == nullptr) return absl::OkStatus();
  CKPT_RETURN_IF_ERROR(ReferenceFile(part, shard, *place));
  const FilePlace& file = place->files[shard.file];
  // Large pieces travel alone.
  if (pieces_bytes_ > 0 && pieces_bytes_ + blocks.count * 8 > kBatchBytesMax) {
    CKPT_RETURN_IF_ERROR(Flush());
  }
  CKPT_ASSIGN_OR_RETURN(const v1::DataFile* entry, part.file(shard.file));
  const uint64_t disk_offset = entry->header_length() + shard.region_offset;
  if (pieces_ == nullptr) pieces_ = google::protobuf::Arena::CreateMessage<Message>(&arena_);
  v1::Piece* piece = pieces_->mutable_pieces()->add_pieces();
  piece->set_leaf_number(leaf_number);
  shard.box.ToProto(piece->mutable_box());
  if (place->in_memory) {
    piece->set_tier(v1::TIER_MEMORY);
    piece->set_file_id(place->pin->file_id().bytes());
    piece->set_file_offset(shard.part_offset);
    if (!file.disk_id.none()) {
      piece->set_disk_file_id(file.disk_id.bytes());
      piece->set_disk_file_offset(disk_offset);
    }
  } else {
    piece->set_tier(v1::TIER_DISK);
    piece->set_unreadable(file.unreadable);
    if (file.unreadable.empty()) piece->set_file_id(file.disk_id.bytes());
    piece->set_file_offset(disk_offset);
  }
  piece->set_length(shard.length);
  piece->set_piece_number(static_cast<uint32_t>(plan_->pieces().size()));
  piece->set_block_bytes(block_bytes);
  piece->set_first_block(blocks.first);
  CKPT_RETURN_IF_ERROR(part.ReadHashes(shard.first_block + blocks.first, blocks.count,
                                       piece->mutable_block_hashes()));
  plan_->AddPiece({shard.part_offset, shard.length, file.disk});
  pieces_bytes_ += piece->ByteSizeLong() + 8;
  return pieces_bytes_ < kBatchBytesMax ? absl::OkStatus() : Flush();
}

}  // namespace ckpt
