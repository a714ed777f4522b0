// Layouts, stored once per digest: the layout as it came, for saves that name it again, and its
// leaves in rows, for everybody who looks for some of them.
//
// A layout's rows are written with its first checkpoint, before the batch that has its
// reference-count row, the one that readers look for first: a crash in between leaves rows that
// the next checkpoint with that layout writes again.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "server/index/rocks_index.h"

namespace ckpt {
namespace {

// Of parsed layouts: those of eight ranks with a million shards, so that a job that saves every few
// minutes does not have its layouts parsed each time.
constexpr size_t kLayoutCacheBytes = 512 << 20;
constexpr size_t kBatchBytesMax = 1 << 20;

// About what a parsed layout takes: its messages are several times as large as their bytes.
size_t ParsedBytes(const PartLayout& layout) { return layout.serialized().size() * 8; }

// The rows of one layout's leaves.
class StoredRows : public LeafRows {
 public:
  StoredRows(std::string digest, rocksdb::DB* db, rocksdb::ColumnFamilyHandle* family)
      : digest_(std::move(digest)), end_(index_keys::After(digest_)) {
    rocksdb::ReadOptions options;
    options.iterate_lower_bound = &lower_;
    options.iterate_upper_bound = end_.empty() ? nullptr : &upper_;
    rows_.reset(db->NewIterator(options, family));
  }
  absl::Status Seek(absl::string_view key) override {
    rows_->SeekForPrev(absl::StrCat(digest_, key));
    if (!rows_->Valid() && rows_->status().ok()) rows_->SeekToFirst();
    return FromRocks(rows_->status());
  }
  absl::Status Next() override {
    rows_->Next();
    return FromRocks(rows_->status());
  }
  bool valid() const override { return rows_->Valid(); }
  absl::string_view row() const override { return ViewOf(rows_->value()); }

 private:
  const std::string digest_;
  const std::string end_;
  const rocksdb::Slice lower_ = SliceOf(digest_);
  const rocksdb::Slice upper_ = SliceOf(end_);
  std::unique_ptr<rocksdb::Iterator> rows_;
};

}  // namespace

absl::StatusOr<uint64_t> RocksIndex::LayoutCount(const std::string& digest) {
  auto row = Get(kLayouts, index_keys::LayoutReferences(digest));
  if (absl::IsNotFound(row.status())) return 0;
  if (!row.ok()) return row.status();
  return index_records::DecodeCount(*row);
}

absl::Status RocksIndex::EnsureLayout(const v1::PartManifest& part) {
  auto row = Get(kLayouts, index_keys::LayoutReferences(part.layout_digest()));
  if (row.ok()) return absl::OkStatus();
  if (!absl::IsNotFound(row.status())) return row.status();
  std::shared_ptr<const PartLayout> layout = FindInCache(part.layout_digest());
  if (layout == nullptr) {
    CKPT_ASSIGN_OR_RETURN(layout, PartLayout::FromProto(part.layout()));
  }
  if (layout->digest() != part.layout_digest()) {
    return absl::DataLossError(absl::StrCat("the part manifest of rank ", part.rank(),
                                            " does not hold the layout that its digest names"));
  }
  return WriteLeaves(*layout);
}

absl::Status RocksIndex::WriteLeaves(const PartLayout& layout) {
  rocksdb::WriteBatch rows;
  rows.Put(families_[kLayouts], index_keys::LayoutBytes(layout.digest()), layout.serialized());
  const auto write = [&]() -> absl::Status {
    CKPT_RETURN_IF_ERROR(FromRocks(db_->Write({}, &rows)));
    rows.Clear();
    return absl::OkStatus();
  };
  CKPT_RETURN_IF_ERROR(
      PackLeaves(layout, [&](absl::string_view first_key, absl::string_view row) -> absl::Status {
        rows.Put(families_[kLeaves], index_keys::Leaves(layout.digest(), first_key), SliceOf(row));
        return rows.GetDataSize() < kBatchBytesMax ? absl::OkStatus() : write();
      }));
  return write();
}

absl::Status RocksIndex::RemoveLayout(rocksdb::WriteBatch& batch, const std::string& digest) {
  batch.Delete(families_[kLayouts], index_keys::LayoutReferences(digest));
  batch.Delete(families_[kLayouts], index_keys::LayoutBytes(digest));
  return DeleteLeaves(batch, digest);
}

absl::Status RocksIndex::DeleteLeaves(rocksdb::WriteBatch& batch, const std::string& digest) {
  const std::string end = index_keys::After(digest);
  if (!end.empty()) return FromRocks(batch.DeleteRange(families_[kLeaves], digest, end));
  return ForEachRow(kLeaves, digest, false, [&](absl::string_view key, absl::string_view) {
    batch.Delete(families_[kLeaves], SliceOf(key));
    return absl::StatusOr<bool>(true);
  });
}

absl::Status RocksIndex::SweepLayouts() {
  MutexLock lock(write_mutex_);
  rocksdb::WriteBatch batch;
  const rocksdb::Slice* const unbounded = nullptr;
  auto rows = Scan(kLayouts, unbounded, unbounded);
  for (rows->SeekToFirst(); rows->Valid(); rows->Next()) {
    const absl::string_view key = ViewOf(rows->key());
    if (key.empty() || key.back() != 'r') continue;
    CKPT_ASSIGN_OR_RETURN(const uint64_t count, index_records::DecodeCount(ViewOf(rows->value())));
    if (count > 0) continue;
    CKPT_RETURN_IF_ERROR(RemoveLayout(batch, std::string(key.substr(0, key.size() - 1))));
  }
  CKPT_RETURN_IF_ERROR(FromRocks(rows->status()));
  return batch.Count() > 0 ? Write(batch) : absl::OkStatus();
}

std::shared_ptr<const PartLayout> RocksIndex::FindLayout(const std::string& digest) {
  if (auto cached = FindInCache(digest)) return cached;
  auto bytes = Get(kLayouts, index_keys::LayoutBytes(digest));
  if (!bytes.ok()) return nullptr;
  auto layout = PartLayout::FromBytes(*std::move(bytes));
  if (!layout.ok() || (*layout)->digest() != digest) return nullptr;
  KeepLayout(*layout);
  return *layout;
}

std::shared_ptr<const PartLayout> RocksIndex::FindInCache(const std::string& digest) {
  MutexLock lock(cache_mutex_);
  for (auto it = layout_cache_.begin(); it != layout_cache_.end(); ++it) {
    if ((*it)->digest() != digest) continue;
    std::rotate(layout_cache_.begin(), it, it + 1);
    return layout_cache_.front();
  }
  return nullptr;
}

void RocksIndex::KeepLayout(std::shared_ptr<const PartLayout> layout) {
  if (FindInCache(layout->digest()) != nullptr) return;
  MutexLock lock(cache_mutex_);
  layout_cache_.push_front(std::move(layout));
  size_t cached = 0;
  for (size_t i = 0; i < layout_cache_.size(); ++i) {
    cached += ParsedBytes(*layout_cache_[i]);
    if (i > 0 && cached > kLayoutCacheBytes) {
      layout_cache_.resize(i);
      break;
    }
  }
}

absl::StatusOr<std::unique_ptr<LeafCursor>> RocksIndex::OpenLeaves(
    const std::string& layout_digest) {
  CKPT_RETURN_IF_ERROR(Get(kLayouts, index_keys::LayoutReferences(layout_digest)).status());
  return std::make_unique<LeafCursor>(
      std::make_unique<StoredRows>(layout_digest, db_.get(), families_[kLeaves]));
}

}  // namespace ckpt
