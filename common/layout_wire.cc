#include "common/layout_wire.h"

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/varint.h"

namespace ckpt::internal {
namespace {

constexpr size_t kShardWireBytesMax = 1024;
constexpr size_t kNumbersWireBytesMax = kDimensionsMax * 10;  // packed varints
static_assert(kLeafWireBytesMax > kKeyBytesMax + kKeySegmentsMax * 16 + kNumbersWireBytesMax);
static_assert(kShardWireBytesMax > 2 * kNumbersWireBytesMax + 32);

// A field's number and how it is written.
constexpr uint64_t VarintField(int number) { return static_cast<uint64_t>(number) << 3; }
constexpr uint64_t BytesField(int number) { return static_cast<uint64_t>(number) << 3 | 2; }

constexpr uint64_t kLeaves = BytesField(v1::Layout::kLeavesFieldNumber);
constexpr uint64_t kShards = BytesField(v1::Layout::kShardsFieldNumber);
constexpr uint64_t kDigest = BytesField(v1::Layout::kReplicatedDigestFieldNumber);
constexpr uint64_t kKey = BytesField(v1::Leaf::kKeyFieldNumber);
constexpr uint64_t kKind = VarintField(v1::Leaf::kKindFieldNumber);
constexpr uint64_t kPlacement = VarintField(v1::Leaf::kPlacementFieldNumber);
constexpr uint64_t kDType = VarintField(v1::Leaf::kDtypeFieldNumber);
constexpr uint64_t kShape = BytesField(v1::Leaf::kShapeFieldNumber);
constexpr uint64_t kAlias = VarintField(v1::Leaf::kAliasOfPlusOneFieldNumber);
constexpr uint64_t kShardLeaf = VarintField(v1::Shard::kLeafFieldNumber);
constexpr uint64_t kShardBox = BytesField(v1::Shard::kBoxFieldNumber);
constexpr uint64_t kOffset = BytesField(v1::Box::kOffsetFieldNumber);
constexpr uint64_t kExtent = BytesField(v1::Box::kExtentFieldNumber);
static_assert(kLeaves < kShards && kShards < kDigest, "fields in ascending order");

absl::Status Malformed() { return absl::InvalidArgumentError("bad layout: it does not parse"); }

absl::Status NotCanonical() {
  return absl::InvalidArgumentError(
      "bad layout: not in canonical form; serialize the message with fields in ascending order, "
      "each once, and leave out what this version of ckptd does not know");
}

// OK at the end of a message that was read to its end.
absl::Status AtEnd(const VarintReader& reader) {
  if (!reader.ok()) return Malformed();
  return reader.canonical() && reader.rest().empty() ? absl::OkStatus() : NotCanonical();
}

absl::Status ReadNumbers(absl::string_view packed, uint64_t* numbers, size_t& count) {
  if (packed.empty()) return NotCanonical();
  VarintReader reader(packed);
  for (count = 0; !reader.rest().empty(); ++count) {
    if (count == kDimensionsMax) {
      return absl::InvalidArgumentError(absl::StrCat("bad layout: more than ", kDimensionsMax,
                                                     " dimensions; at most that many are allowed"));
    }
    numbers[count] = reader.Varint();
  }
  return AtEnd(reader);
}

size_t NumbersBytes(absl::Span<const uint64_t> numbers) {
  size_t bytes = 0;
  for (const uint64_t number : numbers) bytes += VarintBytes(number);
  return bytes;
}

size_t FieldBytes(size_t payload) { return 1 + VarintBytes(payload) + payload; }

void AppendNumbers(uint64_t field, absl::Span<const uint64_t> numbers, std::string& out) {
  if (numbers.empty()) return;
  PutVarint(out, field);
  PutVarint(out, NumbersBytes(numbers));
  for (const uint64_t number : numbers) PutVarint(out, number);
}

}  // namespace

absl::Status BadLayout(absl::string_view where, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("bad layout: ", where, ": ", why));
}

absl::Status TooLarge(size_t layout_bytes) {
  return absl::InvalidArgumentError(absl::StrCat("bad layout: ", layout_bytes, " bytes, at most ",
                                                 kLayoutBytesMax, " are allowed"));
}

absl::Status CountLayout(absl::string_view serialized, LayoutCounts& counts) {
  if (serialized.size() > kLayoutBytesMax) return TooLarge(serialized.size());
  VarintReader reader(serialized);
  uint64_t last = 0;
  while (!reader.rest().empty()) {
    const uint64_t field = reader.Varint();
    const size_t bytes = reader.Text().size();
    if (!reader.ok() || (field & 7) != (kLeaves & 7)) return Malformed();
    if (field < last || field > kDigest || (field == kDigest && last == kDigest)) {
      return NotCanonical();
    }
    last = field;
    if (field == kLeaves) counts.leaf_bytes += bytes;
    if (field == kLeaves && ++counts.leaves > kLeavesPerPartMax) {
      return absl::InvalidArgumentError(
          absl::StrCat("bad layout: more than ", kLeavesPerPartMax, " leaves"));
    }
    if (field == kShards && ++counts.shards > kShardsPerPartMax) {
      return absl::InvalidArgumentError(
          absl::StrCat("bad layout: more than ", kShardsPerPartMax, " shards"));
    }
  }
  return AtEnd(reader);
}

absl::Status ForEachOfLayout(
    absl::string_view serialized,
    absl::FunctionRef<absl::Status(size_t begin, size_t bytes)> leaf,
    absl::FunctionRef<absl::Status(absl::string_view message)> shard,
    absl::string_view& replicated_digest) {
  VarintReader reader(serialized);
  while (!reader.rest().empty()) {
    const uint64_t field = reader.Varint();
    const absl::string_view message = reader.Text();
    if (field == kLeaves) {
      CKPT_RETURN_IF_ERROR(
          leaf(static_cast<size_t>(message.data() - serialized.data()), message.size()));
    } else if (field == kShards) {
      CKPT_RETURN_IF_ERROR(shard(message));
    } else {
      replicated_digest = message;
    }
  }
  return absl::OkStatus();
}

absl::Status ReadLeaf(size_t number, absl::string_view message, WireLeaf& leaf) {
  if (message.size() > kLeafWireBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat("bad layout: leaf ", number, ": ",
                                                   message.size(),
                                                   " bytes; its key is too long"));
  }
  VarintReader reader(message);
  uint64_t last = 0;
  while (!reader.rest().empty()) {
    const uint64_t field = reader.Varint();
    if (field <= last) return NotCanonical();
    last = field;
    uint64_t value = 1;
    switch (field) {
      case kKey:
        leaf.key = reader.Text();
        break;
      case kKind:
        value = leaf.kind = reader.Varint();
        break;
      case kPlacement:
        value = leaf.placement = reader.Varint();
        break;
      case kDType:
        value = leaf.dtype = reader.Varint();
        break;
      case kShape:
        CKPT_RETURN_IF_ERROR(ReadNumbers(reader.Text(), leaf.shape, leaf.dimensions));
        break;
      case kAlias:
        value = reader.Varint();
        if (value > UINT32_MAX) return NotCanonical();
        leaf.alias_of_plus_one = static_cast<uint32_t>(value);
        break;
      default:
        return reader.ok() ? NotCanonical() : Malformed();
    }
    if (value == 0) return reader.ok() ? NotCanonical() : Malformed();
  }
  return AtEnd(reader);
}

absl::Status ReadShard(size_t number, absl::string_view message, WireShard& shard) {
  if (message.size() > kShardWireBytesMax) {
    return BadLayout(absl::StrCat("shard ", number), absl::StrCat(message.size(), " bytes"));
  }
  VarintReader reader(message);
  shard.leaf = 0;
  shard.offsets = shard.extents = 0;
  if (message.empty()) return NotCanonical();  // even a scalar's has a box
  uint64_t field = reader.Varint();
  if (reader.ok() && field == kShardLeaf) {
    const uint64_t leaf = reader.Varint();
    if (reader.ok() && (leaf == 0 || leaf > UINT32_MAX || reader.rest().empty())) {
      return NotCanonical();
    }
    shard.leaf = static_cast<uint32_t>(leaf);
    field = reader.Varint();
  }
  if (!reader.ok()) return Malformed();
  if (field != kShardBox) return NotCanonical();
  VarintReader box(reader.Text());
  CKPT_RETURN_IF_ERROR(AtEnd(reader));
  if (!box.rest().empty()) {
    field = box.Varint();
    if (box.ok() && field == kOffset) {
      CKPT_RETURN_IF_ERROR(ReadNumbers(box.Text(), shard.offset, shard.offsets));
      if (box.rest().empty()) return AtEnd(box);
      field = box.Varint();
    }
    if (!box.ok()) return Malformed();
    if (field != kExtent) return NotCanonical();
    CKPT_RETURN_IF_ERROR(ReadNumbers(box.Text(), shard.extent, shard.extents));
  }
  return AtEnd(box);
}

size_t AppendLeaf(const LeafDeclaration& leaf, std::string& out) {
  const struct {
    uint64_t field, value;
  } before_shape[] = {{kKind, static_cast<uint64_t>(leaf.kind)},
                      {kPlacement, static_cast<uint64_t>(leaf.placement)},
                      {kDType, static_cast<uint64_t>(leaf.dtype)}};
  size_t bytes = FieldBytes(leaf.key.size());
  for (const auto& [field, value] : before_shape) bytes += value == 0 ? 0 : 1 + VarintBytes(value);
  if (!leaf.shape.empty()) bytes += FieldBytes(NumbersBytes(leaf.shape));
  if (leaf.alias_of_plus_one != 0) bytes += 1 + VarintBytes(leaf.alias_of_plus_one);
  PutVarint(out, kLeaves);
  PutVarint(out, bytes);
  PutVarint(out, kKey);
  PutText(out, leaf.key);
  for (const auto& [field, value] : before_shape) {
    if (value == 0) continue;
    PutVarint(out, field);
    PutVarint(out, value);
  }
  AppendNumbers(kShape, leaf.shape, out);
  if (leaf.alias_of_plus_one != 0) {
    PutVarint(out, kAlias);
    PutVarint(out, leaf.alias_of_plus_one);
  }
  return bytes;
}

void AppendShard(uint32_t leaf, absl::Span<const uint64_t> offset,
                 absl::Span<const uint64_t> extent, std::string& out) {
  const size_t box = (offset.empty() ? 0 : FieldBytes(NumbersBytes(offset))) +
                     (extent.empty() ? 0 : FieldBytes(NumbersBytes(extent)));
  PutVarint(out, kShards);
  PutVarint(out, (leaf == 0 ? 0 : 1 + VarintBytes(leaf)) + FieldBytes(box));
  if (leaf != 0) {
    PutVarint(out, kShardLeaf);
    PutVarint(out, leaf);
  }
  PutVarint(out, kShardBox);
  PutVarint(out, box);
  AppendNumbers(kOffset, offset, out);
  AppendNumbers(kExtent, extent, out);
}

void AppendReplicatedDigest(absl::string_view digest, std::string& out) {
  PutVarint(out, kDigest);
  PutText(out, digest);
}

}  // namespace ckpt::internal
