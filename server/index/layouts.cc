// Layouts, stored once per digest: the layout as it came, and one row per leaf for lists of
// tensors.
//
// A layout's rows are written with its first checkpoint, before or in the batch that has its
// reference-count row, the one that readers look for first: a crash in between leaves rows that
// the next checkpoint with that layout writes again.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "server/index/rocks_index.h"

namespace ckpt {
namespace {

constexpr size_t kLayoutCacheBytes = 64 << 20;  // serialized
constexpr size_t kLeavesPerBatch = 4096;

}  // namespace

absl::StatusOr<uint64_t> RocksIndex::LayoutCount(const std::string& digest) {
  auto row = Get(kLayouts, index_keys::LayoutReferences(digest));
  if (absl::IsNotFound(row.status())) return 0;
  if (!row.ok()) return row.status();
  return index_records::DecodeCount(*row);
}

absl::Status RocksIndex::EnsureLayout(rocksdb::WriteBatch& batch, const v1::PartManifest& part,
                                      std::shared_ptr<const PartLayout> layout) {
  auto row = Get(kLayouts, index_keys::LayoutReferences(part.layout_digest()));
  if (row.ok()) return absl::OkStatus();
  if (!absl::IsNotFound(row.status())) return row.status();
  if (layout == nullptr) layout = FindInCache(part.layout_digest());
  if (layout == nullptr) {
    CKPT_ASSIGN_OR_RETURN(layout, PartLayout::FromProto(part.layout()));
  }
  if (layout->digest() != part.layout_digest()) {
    return absl::DataLossError(absl::StrCat("the part manifest of rank ", part.rank(),
                                            " does not hold the layout that its digest names"));
  }
  const v1::Layout& proto = layout->proto();
  std::vector<LeafRecord> leaves(static_cast<size_t>(proto.leaves_size()));
  for (int i = 0; i < proto.shards_size(); ++i) {
    LeafRecord& leaf = leaves[proto.shards(i).leaf()];
    ++leaf.shard_count;
    leaf.data_bytes += layout->shards()[static_cast<size_t>(i)].length;
  }
  rocksdb::WriteBatch rows;
  for (size_t i = 0; i < leaves.size(); ++i) {
    leaves[i].leaf = static_cast<uint32_t>(i);
    leaves[i].proto = proto.leaves(static_cast<int>(i));
    rocksdb::WriteBatch& to = leaves.size() <= kLeavesPerBatch ? batch : rows;
    to.Put(families_[kLeaves], index_keys::Leaf(layout->digest(), layout->printed_keys()[i]),
           index_records::Encode(leaves[i]));
    if (rows.Count() >= kLeavesPerBatch) {
      CKPT_RETURN_IF_ERROR(FromRocks(db_->Write({}, &rows)));
      rows.Clear();
    }
  }
  if (rows.Count() > 0) CKPT_RETURN_IF_ERROR(FromRocks(db_->Write({}, &rows)));
  batch.Put(families_[kLayouts], index_keys::LayoutBytes(layout->digest()), layout->serialized());
  return absl::OkStatus();
}

absl::Status RocksIndex::RemoveLayout(rocksdb::WriteBatch& batch, const std::string& digest) {
  batch.Delete(families_[kLayouts], index_keys::LayoutReferences(digest));
  batch.Delete(families_[kLayouts], index_keys::LayoutBytes(digest));
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
    cached += layout_cache_[i]->serialized().size();
    if (i > 0 && cached > kLayoutCacheBytes) {
      layout_cache_.resize(i);
      break;
    }
  }
}

absl::Status RocksIndex::ForEachLeaf(
    const std::string& layout_digest, const std::string& prefix, const std::string& after,
    absl::FunctionRef<bool(absl::string_view, const LeafRecord&)> visit) {
  CKPT_RETURN_IF_ERROR(Get(kLayouts, index_keys::LayoutReferences(layout_digest)).status());
  const std::string first = index_keys::Leaf(layout_digest, prefix);
  const std::string resumed = index_keys::Leaf(layout_digest, after) + '\0';
  const std::string begin = after.empty() ? first : std::max(first, resumed);
  const std::string end = index_keys::After(first);
  const rocksdb::Slice lower = SliceOf(begin);
  const rocksdb::Slice upper = SliceOf(end);
  auto rows = Scan(kLeaves, &lower, end.empty() ? nullptr : &upper);
  for (rows->SeekToFirst(); rows->Valid(); rows->Next()) {
    CKPT_ASSIGN_OR_RETURN(const LeafRecord leaf, index_records::DecodeLeaf(ViewOf(rows->value())));
    if (!visit(ViewOf(rows->key()).substr(layout_digest.size()), leaf)) return absl::OkStatus();
  }
  return FromRocks(rows->status());
}

}  // namespace ckpt
