#include "common/leaf_table.h"

#include <algorithm>
#include <optional>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "common/box.h"
#include "common/key.h"
#include "common/layout_wire.h"
#include "common/limits.h"
#include "common/quoted.h"
#include "common/replication.h"
#include "common/status_macros.h"
#include "common/varint.h"

namespace ckpt {
namespace {

using internal::BadLayout;

static_assert(internal::kLeafWireBytesMax <= UINT16_MAX);
static_assert(kKeyBytesMax <= UINT16_MAX && kDimensionsMax <= UINT8_MAX);
static_assert(kLayoutBytesMax <= UINT32_MAX, "places in the text have 32 bits");
static_assert(v1::DType_MAX <= UINT8_MAX);

}  // namespace

bool IsTensorKind(v1::LeafKind kind) {
  return kind == v1::LEAF_KIND_TENSOR || kind == v1::LEAF_KIND_STRING_BYTES ||
         kind == v1::LEAF_KIND_RAW_BYTES;
}

void LeafTable::Reserve(size_t leaves, size_t key_bytes) {
  rows_.reserve(leaves);
  shapes_.reserve(leaves);
  printed_.reserve(key_bytes);
}

std::string LeafTable::Name(size_t leaf) const {
  return absl::StrCat("leaf ", leaf, " ", Quoted(printed_key(leaf)));
}

absl::string_view LeafTable::serialized_key(size_t leaf) const {
  VarintReader reader(message(leaf));
  reader.Varint();  // it is the first field
  return reader.Text();
}

std::vector<LeafView> LeafTable::Views() const {
  std::vector<LeafView> views;
  views.reserve(size());
  for (size_t i = 0; i < size(); ++i) views.push_back((*this)[i]);
  return views;
}

std::string LeafTable::ReplicatedDigest() const {
  return ckpt::ReplicatedDigest(any_replicated_ ? Views() : std::vector<LeafView>());
}

uint64_t LeafTable::MemoryBytes() const {
  return text_.capacity() + printed_.capacity() + shapes_.capacity() * sizeof(uint64_t) +
         rows_.capacity() * sizeof(Row);
}

absl::Status LeafTable::Bad(absl::string_view why) const {
  // Its key is the last that was printed.
  const size_t begin =
      rows_.empty() ? 0 : rows_.back().printed_begin + size_t{rows_.back().printed_bytes};
  return BadLayout(
      absl::StrCat("leaf ", rows_.size(), " ", Quoted(absl::string_view(printed_).substr(begin))),
      why);
}

absl::Status LeafTable::Read(size_t begin, size_t bytes) {
  if (rows_.size() == kLeavesPerPartMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("bad layout: more than ", kLeavesPerPartMax, " leaves"));
  }
  internal::WireLeaf wire;
  CKPT_RETURN_IF_ERROR(
      internal::ReadLeaf(rows_.size(), absl::string_view(text_).substr(begin, bytes), wire));
  Row row;
  row.message_begin = static_cast<uint32_t>(begin);
  row.message_bytes = static_cast<uint16_t>(bytes);
  row.printed_begin = static_cast<uint32_t>(printed_.size());
  size_t top_level = 0;
  if (const absl::Status key = internal::AppendPrintedKey(wire.key, printed_, top_level);
      !key.ok()) {
    return BadLayout(absl::StrCat("leaf ", rows_.size()), key.message());
  }
  row.printed_bytes = static_cast<uint16_t>(printed_.size() - row.printed_begin);
  row.top_level_bytes = static_cast<uint16_t>(top_level);
  if (wire.placement == 0 || wire.placement > v1::Placement_MAX) {
    return Bad(absl::StrCat("no such placement: ", static_cast<int64_t>(wire.placement)));
  }
  if (wire.kind == 0 || wire.kind > v1::LeafKind_MAX) {
    return Bad(absl::StrCat("no such kind: ", static_cast<int64_t>(wire.kind)));
  }
  row.placement = static_cast<uint8_t>(wire.placement);
  row.kind = static_cast<uint8_t>(wire.kind);
  const auto kind = static_cast<v1::LeafKind>(wire.kind);
  if (wire.dtype > v1::DType_MAX ||
      (IsTensorKind(kind) && DTypeBytes(static_cast<DType>(wire.dtype)) == 0)) {
    return Bad(absl::StrCat("no such dtype: ", static_cast<int64_t>(wire.dtype)));
  }
  row.dtype = static_cast<uint8_t>(wire.dtype);
  row.dimensions = static_cast<uint8_t>(wire.dimensions);
  row.shape_begin = static_cast<uint32_t>(shapes_.size());
  shapes_.insert(shapes_.end(), wire.shape, wire.shape + wire.dimensions);
  row.alias_of_plus_one = wire.alias_of_plus_one;
  CKPT_RETURN_IF_ERROR(IsTensorKind(kind) ? CheckTensor(row) : CheckPlain(row));
  any_replicated_ |= wire.placement == v1::PLACEMENT_REPLICATED;
  rows_.push_back(row);
  return absl::OkStatus();
}

absl::Status LeafTable::Add(const LeafDeclaration& leaf) {
  const size_t bytes = internal::AppendLeaf(leaf, text_);
  if (text_.size() > kLayoutBytesMax) return internal::TooLarge(text_.size());
  return Read(text_.size() - bytes, bytes);
}

absl::Status LeafTable::CheckTensor(const Row& row) const {
  const auto dtype = static_cast<DType>(row.dtype);
  const auto shape = absl::MakeConstSpan(shapes_).subspan(row.shape_begin);
  const std::optional<uint64_t> volume = Volume(shape);
  if (!volume || *volume > kStepMax / DTypeBytes(dtype)) {
    return Bad("its shape has more than 2^63 bytes");
  }
  if (row.kind != v1::LEAF_KIND_TENSOR && (dtype != v1::DTYPE_U8 || row.dimensions != 1)) {
    return Bad("long strings and bytes are one-dimensional tensors of U8");
  }
  if (row.alias_of_plus_one == 0) return absl::OkStatus();
  if (row.alias_of_plus_one > rows_.size()) return Bad("an alias must be of an earlier leaf");
  const LeafView target = (*this)[row.alias_of_plus_one - 1];
  if (!IsTensorKind(target.kind) || target.alias_of_plus_one != 0) {
    return Bad("an alias must be of a tensor that is not an alias itself");
  }
  if (target.dtype != dtype || target.shape != shape) {
    return Bad("an alias must have the dtype and shape of its tensor");
  }
  return absl::OkStatus();
}

absl::Status LeafTable::CheckPlain(const Row& row) const {
  if (row.dtype != v1::DTYPE_UNSPECIFIED || row.dimensions > 0 || row.alias_of_plus_one != 0) {
    return Bad("only tensors have a dtype, a shape or an alias");
  }
  if (row.placement == v1::PLACEMENT_SHARDED) return Bad("only tensors can be sharded");
  return absl::OkStatus();
}

absl::Status LeafTable::CheckDistinct() const {
  absl::flat_hash_set<absl::string_view> seen;
  seen.reserve(size());
  for (size_t i = 0; i < size(); ++i) {
    if (!seen.insert(printed_key(i)).second) {
      return BadLayout(Name(i), "another leaf's key prints the same");
    }
  }
  return absl::OkStatus();
}

}  // namespace ckpt
