// Layouts, stored once per digest: their leaves in rows, for everybody who looks for some of them.
// A save that names a layout again gets it put together from all of its rows; the digest says
// whether that is the layout that it was.
//
// A layout's rows are written when the first part that has it is durable, before the batch that has
// its reference-count row, the one that readers look for first: a crash in between leaves rows that
// the next start removes. Those of a small layout go through the log, in batches of their own;
// those of a large one become a table, which is synced before that batch is written.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/limits.h"
#include "common/status_macros.h"
#include "rocksdb/sst_file_writer.h"
#include "server/index/rocks_index.h"

namespace ckpt {
namespace {

// Of parsed layouts: more than those of eight ranks with a million shards (30 MiB each), so that a
// job that saves every few minutes does not have its layouts parsed each time.
constexpr uint64_t kLayoutCacheBytes = uint64_t{512} << 20;
constexpr size_t kBatchBytesMax = 1 << 20;
constexpr size_t kDigestBytes = 32;
// From here on its rows go past the log and the memtables, sorted as they are: a table is made,
// synced and taken in whole; nothing is merged with it, for no other rows lie between a layout's.
constexpr size_t kLargeLayoutBytes = 2 << 20;

bool IsLarge(const PartLayout& layout) { return layout.serialized().size() >= kLargeLayoutBytes; }

// From all of its leaves. Null where they do not make a layout of that digest.
absl::StatusOr<std::shared_ptr<const PartLayout>> PutTogether(LeafCursor& leaves,
                                                              const std::string& digest) {
  struct Placed {
    uint32_t leaf;
    LeafShard shard;
  };
  std::vector<v1::Leaf> in_order;
  std::vector<Placed> placed;
  std::vector<LeafShard> shards;
  CKPT_RETURN_IF_ERROR(leaves.Seek(""));
  while (leaves.valid()) {
    const uint32_t position = leaves.position();
    if (position >= kLeavesPerPartMax) return nullptr;
    if (in_order.size() <= position) in_order.resize(position + 1);
    CKPT_RETURN_IF_ERROR(leaves.ReadLeaf(in_order[position]));
    CKPT_RETURN_IF_ERROR(leaves.ReadShards(shards));
    for (const LeafShard& shard : shards) placed.push_back({position, shard});
    CKPT_RETURN_IF_ERROR(leaves.Next());
  }
  LayoutBuilder builder;
  builder.Reserve(in_order.size());
  for (const v1::Leaf& leaf : in_order) CKPT_RETURN_IF_ERROR(builder.AddLeaf(leaf));
  for (const Placed& one : placed) {
    CKPT_RETURN_IF_ERROR(builder.AddShard(one.leaf, one.shard.box));
  }
  CKPT_ASSIGN_OR_RETURN(auto layout, builder.Build());
  return layout->digest() == digest ? layout : nullptr;
}

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
  auto row = Get(kLayouts, digest);
  if (absl::IsNotFound(row.status())) return 0;
  if (!row.ok()) return row.status();
  return index_records::DecodeCount(*row);
}

absl::StatusOr<bool> RocksIndex::KnowsLayout(const std::string& digest) {
  const absl::Status row = Get(kLayouts, digest).status();
  if (!row.ok() && !absl::IsNotFound(row)) return row;
  return row.ok() || prepared_.contains(digest);
}

absl::Status RocksIndex::EnsureLayout(const PartLayout& layout) {
  CKPT_ASSIGN_OR_RETURN(const bool known, KnowsLayout(layout.digest()));
  return known ? absl::OkStatus() : WriteLeaves(layout, nullptr);
}

absl::Status RocksIndex::PrepareLayout(const PartLayout& layout) {
  std::unique_ptr<LayoutTable> table;
  if (IsLarge(layout)) {  // made while others write
    bool known = false;
    {
      MutexLock lock(write_mutex_);
      CKPT_ASSIGN_OR_RETURN(known, KnowsLayout(layout.digest()));
    }
    if (!known) {
      CKPT_ASSIGN_OR_RETURN(table, MakeTable(layout));
    }
  }
  MutexLock lock(write_mutex_);
  CKPT_ASSIGN_OR_RETURN(const bool known, KnowsLayout(layout.digest()));
  if (!known) CKPT_RETURN_IF_ERROR(WriteLeaves(layout, std::move(table)));
  if (LayoutCount(layout.digest()).value_or(1) == 0) prepared_[layout.digest()] = absl::Now();
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const PartLayout>> RocksIndex::LayoutOf(
    const v1::PartManifest& part, std::shared_ptr<const PartLayout> layout) {
  if (layout == nullptr) layout = FindInCache(part.layout_digest());
  if (layout == nullptr) {
    CKPT_ASSIGN_OR_RETURN(layout, PartLayout::FromProto(part.layout()));
    if (layout->digest() == part.layout_digest()) KeepLayout(layout);
  }
  if (layout->digest() != part.layout_digest()) {
    return absl::DataLossError(absl::StrCat("the part manifest of rank ", part.rank(),
                                            " does not hold the layout that its digest names"));
  }
  return layout;
}

RocksIndex::LayoutTable::~LayoutTable() { env->DeleteFile(path).PermitUncheckedError(); }

absl::StatusOr<std::unique_ptr<RocksIndex::LayoutTable>> RocksIndex::MakeTable(
    const PartLayout& layout) {
  std::unique_ptr<LayoutTable> table(new LayoutTable{
      db_->GetEnv(), absl::StrCat(db_->GetName(), "/", ++tables_made_, kTableSuffix)});
  const rocksdb::Options options = db_->GetOptions(families_[kLeaves]);
  rocksdb::SstFileWriter writer(rocksdb::EnvOptions(options), options, families_[kLeaves]);
  CKPT_RETURN_IF_ERROR(Fitted(writer.Open(table->path)));
  CKPT_RETURN_IF_ERROR(PackLeaves(layout, [&](absl::string_view first_key, absl::string_view row) {
    return Fitted(writer.Put(index_keys::Leaves(layout.digest(), first_key), SliceOf(row)));
  }));
  CKPT_RETURN_IF_ERROR(Fitted(writer.Finish()));
  return table;
}

absl::Status RocksIndex::WriteLeaves(const PartLayout& layout, std::unique_ptr<LayoutTable> table) {
  if (IsLarge(layout)) {
    if (table == nullptr) {
      CKPT_ASSIGN_OR_RETURN(table, MakeTable(layout));
    }
    rocksdb::IngestExternalFileOptions options;
    options.move_files = true;
    options.write_global_seqno = false;
    return Fitted(db_->IngestExternalFile(families_[kLeaves], {table->path}, options));
  }
  rocksdb::WriteBatch rows;
  const auto write = [&]() -> absl::Status {
    CKPT_RETURN_IF_ERROR(Written(db_->Write({}, &rows)));
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
  prepared_.erase(digest);
  batch.Delete(families_[kLayouts], digest);
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
  auto rows = Scan(kLeaves, unbounded, unbounded);
  rows->SeekToFirst();
  while (rows->Valid()) {  // one step for each layout
    const std::string digest(ViewOf(rows->key()).substr(0, kDigestBytes));
    CKPT_ASSIGN_OR_RETURN(const uint64_t references, LayoutCount(digest));
    if (references == 0) CKPT_RETURN_IF_ERROR(RemoveLayout(batch, digest));
    const std::string next = index_keys::After(digest);
    if (next.empty()) break;
    rows->Seek(next);
  }
  CKPT_RETURN_IF_ERROR(FromRocks(rows->status()));
  return batch.Count() > 0 ? Write(batch) : absl::OkStatus();
}

std::shared_ptr<const PartLayout> RocksIndex::FindLayout(const std::string& digest) {
  if (auto cached = FindInCache(digest)) return cached;
  const auto leaves = OpenLeaves(digest);
  if (!leaves.ok()) return nullptr;
  const auto layout = PutTogether(**leaves, digest);
  if (!layout.ok() || *layout == nullptr) return nullptr;
  KeepLayout(*layout);
  return *layout;
}

std::shared_ptr<const PartLayout> RocksIndex::FindInCache(const std::string& digest) {
  MutexLock lock(cache_mutex_);
  for (auto it = layout_cache_.begin(); it != layout_cache_.end(); ++it) {
    if (it->layout->digest() != digest) continue;
    std::rotate(layout_cache_.begin(), it, it + 1);
    layout_cache_.front().used_at = absl::Now();
    return layout_cache_.front().layout;
  }
  return nullptr;
}

void RocksIndex::KeepLayout(std::shared_ptr<const PartLayout> layout) {
  if (FindInCache(layout->digest()) != nullptr) return;
  const uint64_t bytes = layout->MemoryBytes();
  MutexLock lock(cache_mutex_);
  layout_cache_.push_front({std::move(layout), bytes, absl::Now()});
  uint64_t cached = 0;
  for (size_t i = 0; i < layout_cache_.size(); ++i) {
    cached += layout_cache_[i].bytes;
    if (i > 0 && cached > kLayoutCacheBytes) {
      layout_cache_.resize(i);
      break;
    }
  }
}

void RocksIndex::ForgetCachedSince(absl::Time time) {
  MutexLock lock(cache_mutex_);
  while (!layout_cache_.empty() && layout_cache_.back().used_at < time) layout_cache_.pop_back();
}

void RocksIndex::ForgetLayoutsUnusedSince(absl::Time time) {
  ForgetCachedSince(time);
  MutexLock lock(write_mutex_);
  rocksdb::WriteBatch batch;
  std::vector<std::string> doomed;
  for (const auto& [digest, prepared_at] : prepared_) {
    if (prepared_at < time && DeleteLeaves(batch, digest).ok()) doomed.push_back(digest);
  }
  if (doomed.empty() || !Write(batch).ok()) return;  // the next start removes them
  for (const std::string& digest : doomed) prepared_.erase(digest);
}

absl::StatusOr<std::unique_ptr<LeafCursor>> RocksIndex::OpenLeaves(
    const std::string& layout_digest) {
  CKPT_RETURN_IF_ERROR(Get(kLayouts, layout_digest).status());
  return std::make_unique<LeafCursor>(
      std::make_unique<StoredRows>(layout_digest, db_.get(), families_[kLeaves]));
}

}  // namespace ckpt
