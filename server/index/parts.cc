// Part rows: the head, and behind it values and block hashes in rows that are read one at a time;
// and which files are referenced by whom.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "server/index/rocks_index.h"

namespace ckpt {
namespace {

// A row of values ends with the one that passes one of these.
constexpr size_t kValueRowEntriesMax = 64;
constexpr size_t kValueRowBytesMax = 16 << 10;

// Field by field: copying the rest first only to clear it costs more than all else.
v1::PartManifest HeadOf(const v1::PartManifest& part) {
  v1::PartManifest head;
  head.set_format_version(part.format_version());
  *head.mutable_id() = part.id();
  head.set_checkpoint_uid(part.checkpoint_uid());
  head.set_rank(part.rank());
  head.set_world_size(part.world_size());
  *head.mutable_share() = part.share();
  head.set_layout_digest(part.layout_digest());
  *head.mutable_files() = part.files();
  head.set_block_bytes(part.block_bytes());
  return head;
}

using KeyedValue = std::pair<std::string, const v1::Values::Entry*>;

absl::StatusOr<std::vector<KeyedValue>> ByKey(const v1::Values& values, const LeafTable& leaves) {
  std::vector<KeyedValue> keyed;
  keyed.reserve(static_cast<size_t>(values.entries_size()));
  for (const v1::Values::Entry& entry : values.entries()) {
    if (entry.leaf() >= leaves.size()) {
      return absl::DataLossError(
          absl::StrCat("a part has a value of leaf ", entry.leaf(), " of ", leaves.size()));
    }
    keyed.emplace_back(leaves.printed_key(entry.leaf()), &entry);
  }
  std::sort(keyed.begin(), keyed.end());
  return keyed;
}

}  // namespace

absl::Status RocksIndex::PutPart(rocksdb::WriteBatch& batch, CheckpointUid uid,
                                 const v1::PartManifest& part, const PartLayout& layout) {
  batch.Put(families_[kParts], index_keys::Part(uid, part.rank()),
            HeadOf(part).SerializeAsString());
  const absl::Span<const uint64_t> hashes(part.block_hashes().data(),
                                          static_cast<size_t>(part.block_hashes_size()));
  for (uint64_t row = 0; row * kHashesPerRow < hashes.size(); ++row) {
    batch.Put(families_[kParts], index_keys::PartHashes(uid, part.rank(), row),
              index_records::EncodeHashes(hashes.subspan(row * kHashesPerRow, kHashesPerRow)));
  }
  CKPT_ASSIGN_OR_RETURN(const std::vector<KeyedValue> keyed, ByKey(part.values(), layout.leaves()));
  std::string from;  // the first row covers whatever lies before its first key, too
  v1::Values row;
  size_t bytes = 0;
  for (size_t i = 0; i < keyed.size(); ++i) {
    *row.add_entries() = *keyed[i].second;
    bytes += keyed[i].second->ByteSizeLong();
    const bool last = i + 1 == keyed.size();
    if (!last && static_cast<size_t>(row.entries_size()) < kValueRowEntriesMax &&
        bytes < kValueRowBytesMax) {
      continue;
    }
    const std::string until = last ? std::string() : keyed[i + 1].first;
    batch.Put(families_[kParts], index_keys::PartValuesPrefix(uid, part.rank()) + from,
              index_records::EncodeValues(row, until));
    from = until;
    row.Clear();
    bytes = 0;
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::PartManifest> RocksIndex::GetPartHead(CheckpointUid uid, uint32_t rank) {
  auto row = Get(kParts, index_keys::Part(uid, rank));
  if (absl::IsNotFound(row.status())) {
    return absl::NotFoundError(absl::StrCat("no part of rank ", rank, " in ", uid.hex()));
  }
  if (!row.ok()) return row.status();
  v1::PartManifest part;
  if (!part.ParseFromString(*row)) return index_records::Damaged("a part row");
  return part;
}

absl::StatusOr<std::vector<uint64_t>> RocksIndex::ReadBlockHashes(CheckpointUid uid, uint32_t rank,
                                                                  uint64_t row) {
  CKPT_ASSIGN_OR_RETURN(const std::string bytes,
                        Get(kParts, index_keys::PartHashes(uid, rank, row)));
  return index_records::DecodeHashes(bytes);
}

absl::StatusOr<ValueRow> RocksIndex::ReadValues(CheckpointUid uid, uint32_t rank,
                                                absl::string_view printed_key) {
  const std::string prefix = index_keys::PartValuesPrefix(uid, rank);
  const std::string end = index_keys::After(prefix);
  const rocksdb::Slice lower = SliceOf(prefix);
  const rocksdb::Slice upper = SliceOf(end);
  auto rows = Scan(kParts, &lower, &upper);
  rows->SeekForPrev(absl::StrCat(prefix, printed_key));
  if (!rows->Valid()) {
    CKPT_RETURN_IF_ERROR(FromRocks(rows->status()));
    return ValueRow();
  }
  CKPT_ASSIGN_OR_RETURN(ValueRow row, index_records::DecodeValues(ViewOf(rows->value())));
  row.from = std::string(ViewOf(rows->key()).substr(prefix.size()));
  return row;
}

absl::Status RocksIndex::ForEachFile(absl::FunctionRef<bool(FileId, CheckpointUid)> visit) {
  return ForEachRow(kFiles, "", false,
                    [&](absl::string_view key, absl::string_view) -> absl::StatusOr<bool> {
                      if (key.size() != 32) return index_records::Damaged("a file key");
                      return visit(index_keys::IdOf<FileId>(key.substr(0, 16)),
                                   index_keys::IdOf<CheckpointUid>(key.substr(16)));
                    });
}

absl::StatusOr<bool> RocksIndex::IsShared(FileId file, CheckpointUid uid) {
  bool shared = false;
  CKPT_RETURN_IF_ERROR(
      ForEachRow(kFiles, file.bytes(), false,
                 [&](absl::string_view key, absl::string_view) -> absl::StatusOr<bool> {
                   shared = key.substr(16) != uid.bytes();
                   return !shared;
                 }));
  return shared;
}

}  // namespace ckpt
