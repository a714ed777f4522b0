#include "common/replication.h"

#include <algorithm>

#include "absl/strings/string_view.h"
#include "common/digest.h"
#include "common/dtype.h"

namespace ckpt {
namespace {

using Wide = unsigned __int128;  // sums of sizes that nobody has checked yet do not overflow

// Never empty() for a rank; see the header.
Box NothingOf(size_t rank) {
  Box box;
  box.offset.assign(std::max<size_t>(rank, 1), 0);
  box.extent.assign(std::max<size_t>(rank, 1), 0);
  return box;
}

// The first dimension with more than one row; the rank where there is none.
size_t SplitDimension(const Extents& extent) {
  size_t d = 0;
  while (d < extent.size() && extent[d] <= 1) ++d;
  return d;
}

Box Rows(const Box& box, uint64_t begin, uint64_t end) {
  if (begin >= end) return NothingOf(box.rank());
  Box rows = box;
  const size_t d = SplitDimension(box.extent);
  if (d < box.rank()) {
    rows.offset[d] += begin;
    rows.extent[d] = end - begin;
  }
  return rows;
}

uint64_t RowCount(const Box& box) {
  const size_t d = SplitDimension(box.extent);
  return d < box.rank() ? box.extent[d] : 1;
}

// The row boundary nearest to `cut`, of `rows` rows of `row_bytes` that begin at `begin`.
uint64_t NearestRow(Wide cut, Wide begin, uint64_t rows, uint64_t row_bytes) {
  if (cut <= begin) return 0;
  if (cut >= begin + Wide{rows} * row_bytes) return rows;
  return static_cast<uint64_t>(((cut - begin) * 2 + row_bytes) / (Wide{row_bytes} * 2));
}

// Indices of the REPLICATED leaves in printed-key order.
std::vector<size_t> ReplicatedLeaves(absl::Span<const LeafView> leaves) {
  std::vector<size_t> found;
  for (size_t i = 0; i < leaves.size(); ++i) {
    if (leaves[i].placement == v1::PLACEMENT_REPLICATED) found.push_back(i);
  }
  std::sort(found.begin(), found.end(), [&](size_t a, size_t b) {
    const int order = leaves[a].printed_key.compare(leaves[b].printed_key);
    return order != 0 ? order < 0 : a < b;
  });
  return found;
}

// Little-endian, fixed width.
void AppendNumber(uint64_t number, std::string& out) {
  for (int i = 0; i < 8; ++i) out.push_back(static_cast<char>(number >> (8 * i)));
}
void AppendText(absl::string_view text, std::string& out) {
  AppendNumber(text.size(), out);
  out.append(text.data(), text.size());
}

}  // namespace

std::vector<Box> ReplicatedBoxes(absl::Span<const LeafView> leaves, uint32_t member,
                                 uint32_t members) {
  std::vector<Box> boxes;
  boxes.reserve(leaves.size());
  for (const LeafView& leaf : leaves) boxes.push_back(NothingOf(leaf.shape.size()));

  struct Tensor {
    size_t leaf;
    Wide begin;
    uint64_t row_bytes;
  };
  std::vector<Tensor> tensors;
  Wide total = 0;
  for (const size_t i : ReplicatedLeaves(leaves)) {
    const LeafView& leaf = leaves[i];
    if (!IsTensorKind(leaf.kind) || leaf.alias_of_plus_one != 0) continue;
    const Box whole = Box::Whole(leaf.shape);
    if (whole.empty()) continue;
    if (leaf.kind != v1::LEAF_KIND_TENSOR) {
      if (member == 0) boxes[i] = whole;
      continue;
    }
    const uint64_t rows = RowCount(whole);
    const uint64_t row_bytes = whole.volume() / rows * DTypeBytes(leaf.dtype);
    if (row_bytes == 0) continue;  // no known dtype
    tensors.push_back({i, total, row_bytes});
    total += Wide{rows} * row_bytes;
    boxes[i] = whole;
  }
  const Wide low = total * member / members;
  const Wide high = total * (member + uint64_t{1}) / members;
  for (const Tensor& tensor : tensors) {
    Box& box = boxes[tensor.leaf];
    const uint64_t rows = RowCount(box);
    const uint64_t first = NearestRow(low, tensor.begin, rows, tensor.row_bytes);
    const uint64_t last = NearestRow(high, tensor.begin, rows, tensor.row_bytes);
    box = Rows(box, first, last);
  }
  return boxes;
}

Box ReplicaBox(const Box& box, uint32_t replica_index, uint32_t replica_count) {
  if (box.empty()) return box;
  const Wide rows = RowCount(box);
  return Rows(box, static_cast<uint64_t>(rows * replica_index / replica_count),
              static_cast<uint64_t>(rows * (replica_index + uint64_t{1}) / replica_count));
}

std::string ReplicatedDigest(absl::Span<const LeafView> leaves) {
  std::string text;
  for (const size_t i : ReplicatedLeaves(leaves)) {
    const LeafView& leaf = leaves[i];
    AppendText(leaf.printed_key, text);
    AppendNumber(static_cast<uint64_t>(leaf.kind), text);
    AppendNumber(static_cast<uint64_t>(leaf.dtype), text);
    AppendNumber(leaf.shape.size(), text);
    for (const uint64_t extent : leaf.shape) AppendNumber(extent, text);
    const uint32_t target = leaf.alias_of_plus_one;
    AppendNumber(target != 0 ? 1 : 0, text);
    if (target != 0 && target <= leaves.size()) AppendText(leaves[target - 1].printed_key, text);
  }
  return Sha256(text);
}

}  // namespace ckpt
