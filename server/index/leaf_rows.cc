// The bytes of a row of leaves, written.
//
// A row is one leaf after another; numbers are varints:
//   bytes of the printed key that the leaf before it in the row has as well, then the rest: length,
//   bytes; position in the layout; flags (placement | tied << 2 | tensor << 3 | alias << 4); bytes
//   of the first segment as it prints; of tensors: dtype, bytes of the whole tensor; the Leaf
//   message: length, bytes; printed key of the leaf whose storage it shares: length (0, without the
//   flag: none), bytes; shards: length in bytes, then of each: dimensions << 1 | whole tensor,
//   offsets and extents (unless whole), length, part offset, region offset, file, first block.
#include <algorithm>
#include <cstring>
#include <map>
#include <numeric>
#include <utility>

#include "absl/types/span.h"
#include "common/dtype.h"
#include "common/key.h"
#include "server/index/leaf_cursor.h"
#include "common/varint.h"

namespace ckpt {
namespace {


// A row ends with the leaf that passes one of these.
constexpr size_t kLeafRowLeavesMax = 64;
constexpr size_t kLeafRowBytesMax = 16 << 10;

// Leaves by printed key. Shards are by (element size, printed key), so that most of the work is
// done: their leaves are a few ascending runs.
std::vector<uint32_t> OrderOfLeaves(const PartLayout& layout) {
  const LeafTable& keys = layout.leaves();
  const ShardTable& shards = layout.shard_boxes();
  const auto before = [&](uint32_t a, uint32_t b) {
    return keys.printed_key(a) < keys.printed_key(b);
  };
  std::vector<uint32_t> order;
  order.reserve(keys.size());
  std::vector<size_t> runs;  // where each begins
  std::vector<bool> placed(keys.size(), false);
  for (size_t s = 0; s < shards.size(); ++s) {
    const uint32_t leaf = shards[s].leaf;
    if (placed[leaf]) continue;
    placed[leaf] = true;
    if (order.empty() || !before(order.back(), leaf)) runs.push_back(order.size());
    order.push_back(leaf);
  }
  runs.push_back(order.size());
  for (uint32_t i = 0; i < keys.size(); ++i) {
    if (!placed[i]) order.push_back(i);
  }
  const auto at = [&](size_t run) { return order.begin() + static_cast<ptrdiff_t>(runs[run]); };
  std::sort(at(runs.size() - 1), order.end(), before);
  for (size_t run = 1; run < runs.size(); ++run) {
    const auto end = run + 1 < runs.size() ? at(run + 1) : order.end();
    std::inplace_merge(order.begin(), at(run), end, before);
  }
  return order;
}

class Packer {
 public:
  explicit Packer(const PartLayout& layout)
      : layout_(layout),
        first_shard_(layout.leaves().size(), UINT32_MAX),
        tied_(layout.leaves().size(), false) {
    for (size_t s = layout.shard_boxes().size(); s-- > 0;) {
      first_shard_[layout.shard_boxes()[s].leaf] = static_cast<uint32_t>(s);
    }
    for (size_t i = 0; i < layout.leaves().size(); ++i) {
      const uint32_t alias = layout.leaves()[i].alias_of_plus_one;
      if (alias != 0) tied_[i] = tied_[alias - 1] = true;
    }
  }

  absl::Status Run(
      absl::FunctionRef<absl::Status(absl::string_view first_key, absl::string_view row)> put) {
    size_t in_row = 0;
    absl::string_view first;
    absl::string_view previous;
    for (const uint32_t leaf : OrderOfLeaves(layout_)) {
      const absl::string_view key = layout_.leaves().printed_key(leaf);
      if (in_row == kLeafRowLeavesMax || row_.size() >= kLeafRowBytesMax) {
        if (absl::Status status = put(first, row_); !status.ok()) return status;
        row_.clear();
        in_row = 0;
      }
      if (in_row++ == 0) {
        first = key;
        previous = absl::string_view();
      }
      const auto [left, right] =
          std::mismatch(previous.begin(), previous.end(), key.begin(), key.end());
      const auto shared = static_cast<size_t>(left - previous.begin());
      PutVarint(row_, shared);
      PutText(row_, key.substr(shared));
      Add(leaf);
      previous = key;
    }
    return in_row == 0 ? absl::OkStatus() : put(first, row_);
  }

 private:
  void Add(uint32_t number) {
    const LeafView leaf = layout_.leaves()[number];
    const bool tensor = IsTensorKind(leaf.kind);
    PutVarint(row_, number);
    PutVarint(row_, static_cast<uint64_t>(leaf.placement) | uint64_t{tied_[number]} << 2 |
                        uint64_t{tensor} << 3 | uint64_t{leaf.alias_of_plus_one != 0} << 4);
    PutVarint(row_, leaf.top_level.size());
    if (tensor) {
      PutVarint(row_, static_cast<uint64_t>(leaf.dtype));
      PutVarint(row_, Volume(leaf.shape).value_or(0) * DTypeBytes(leaf.dtype));
    }
    PutText(row_, layout_.leaves().message(number));
    PutText(row_, leaf.alias_of_plus_one == 0
                      ? absl::string_view()
                      : layout_.leaves().printed_key(leaf.alias_of_plus_one - 1));
    shards_.clear();
    const ShardTable& shards = layout_.shard_boxes();
    for (size_t s = first_shard_[number]; s < shards.size() && shards[s].leaf == number; ++s) {
      AddShard(leaf, shards[s], layout_.shards()[s]);
    }
    PutText(row_, shards_);
  }

  void AddShard(const LeafView& leaf, const ShardView& box, const PartLayout::ShardPlace& place) {
    const bool whole = box.extent == leaf.shape;
    PutVarint(shards_, box.extent.size() << 1 | uint64_t{whole});
    if (!whole) {
      for (const uint64_t offset : box.offset) PutVarint(shards_, offset);
      for (const uint64_t extent : box.extent) PutVarint(shards_, extent);
    }
    PutVarint(shards_, place.length);
    PutVarint(shards_, place.part_offset);
    PutVarint(shards_, place.part_offset - layout_.files()[place.file].part_offset);
    PutVarint(shards_, place.file);
    PutVarint(shards_, place.first_block);
  }

  const PartLayout& layout_;
  std::vector<uint32_t> first_shard_;  // of each leaf; its shards follow one another
  std::vector<bool> tied_;
  std::string row_;
  std::string shards_;
};

// Rows in memory.
class KeptRows : public LeafRows {
 public:
  explicit KeptRows(std::map<std::string, std::string, std::less<>> rows)
      : rows_(std::move(rows)), at_(rows_.end()) {}
  absl::Status Seek(absl::string_view key) override {
    at_ = rows_.upper_bound(key);
    if (at_ != rows_.begin()) --at_;
    return absl::OkStatus();
  }
  absl::Status Next() override {
    ++at_;
    return absl::OkStatus();
  }
  bool valid() const override { return at_ != rows_.end(); }
  absl::string_view row() const override { return at_->second; }

 private:
  const std::map<std::string, std::string, std::less<>> rows_;
  std::map<std::string, std::string, std::less<>>::const_iterator at_;
};

}  // namespace

absl::Status PackLeaves(
    const PartLayout& layout,
    absl::FunctionRef<absl::Status(absl::string_view first_key, absl::string_view row)> put) {
  return Packer(layout).Run(put);
}

std::unique_ptr<LeafCursor> CursorOverLayout(const PartLayout& layout) {
  std::map<std::string, std::string, std::less<>> rows;
  PackLeaves(layout, [&](absl::string_view first_key, absl::string_view row) {
    rows.emplace_hint(rows.end(), first_key, row);
    return absl::OkStatus();
  }).IgnoreError();  // nothing in it fails
  return std::make_unique<LeafCursor>(std::make_unique<KeptRows>(std::move(rows)));
}

}  // namespace ckpt
