#include "common/layout.h"

#include <google/protobuf/arena.h>

#include <algorithm>
#include <compare>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/key.h"
#include "common/layout_wire.h"
#include "common/limits.h"
#include "common/quoted.h"
#include "common/replication.h"
#include "common/safetensors.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

// Of the header region of a file, beside its shards: length prefix, braces, the fixed metadata, and
// padding. Together with HeaderBytesBound this decides where files are cut, and so is part of the
// format: never to be changed.
constexpr uint64_t kHeaderReserveBytes = 65536;
static_assert(kHeaderReserveBytes >= 16 * kRunBytesMax + 2 * kDataAlignmentBytes);

absl::Status Bad(absl::string_view where, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("bad layout: ", where, ": ", why));
}

std::string LeafName(size_t i, absl::string_view printed) {
  return absl::StrCat("leaf ", i, " ", Quoted(printed));
}

absl::Status CheckTensorLeaf(const v1::Layout& layout, int i, absl::string_view printed) {
  const v1::Leaf& leaf = layout.leaves(i);
  const uint64_t element = DTypeBytes(leaf.dtype());
  if (element == 0) {
    return Bad(LeafName(i, printed),
               absl::StrCat("no such dtype: ", static_cast<int>(leaf.dtype())));
  }
  if (static_cast<size_t>(leaf.shape_size()) > kDimensionsMax) {
    return Bad(LeafName(i, printed), absl::StrCat(leaf.shape_size(), " dimensions, at most ",
                                                  kDimensionsMax, " are allowed"));
  }
  const std::optional<uint64_t> volume =
      Volume(absl::MakeConstSpan(leaf.shape().data(), leaf.shape_size()));
  if (!volume || *volume > kStepMax / element) {
    return Bad(LeafName(i, printed), "its shape has more than 2^63 bytes");
  }
  if (leaf.kind() != v1::LEAF_KIND_TENSOR &&
      (leaf.dtype() != v1::DTYPE_U8 || leaf.shape_size() != 1)) {
    return Bad(LeafName(i, printed), "long strings and bytes are one-dimensional tensors of U8");
  }
  const uint32_t alias = leaf.alias_of_plus_one();
  if (alias == 0) return absl::OkStatus();
  if (alias > static_cast<uint32_t>(i)) {
    return Bad(LeafName(i, printed), "an alias must be of an earlier leaf");
  }
  const v1::Leaf& target = layout.leaves(static_cast<int>(alias - 1));
  if (!IsTensorKind(target.kind()) || target.alias_of_plus_one() != 0) {
    return Bad(LeafName(i, printed), "an alias must be of a tensor that is not an alias itself");
  }
  if (target.dtype() != leaf.dtype() || !std::equal(target.shape().begin(), target.shape().end(),
                                                    leaf.shape().begin(), leaf.shape().end())) {
    return Bad(LeafName(i, printed), "an alias must have the dtype and shape of its tensor");
  }
  return absl::OkStatus();
}

absl::Status CheckPlainLeaf(const v1::Leaf& leaf, int i, absl::string_view printed) {
  switch (leaf.kind()) {
    case v1::LEAF_KIND_VALUE:
    case v1::LEAF_KIND_EMPTY_DICT:
    case v1::LEAF_KIND_EMPTY_LIST:
      break;
    default:
      return Bad(LeafName(i, printed),
                 absl::StrCat("no such kind: ", static_cast<int>(leaf.kind())));
  }
  if (leaf.dtype() != v1::DTYPE_UNSPECIFIED || leaf.shape_size() > 0 ||
      leaf.alias_of_plus_one() != 0) {
    return Bad(LeafName(i, printed), "only tensors have a dtype, a shape or an alias");
  }
  if (leaf.placement() == v1::PLACEMENT_SHARDED) {
    return Bad(LeafName(i, printed), "only tensors can be sharded");
  }
  return absl::OkStatus();
}

absl::Status CheckLeaves(const v1::Layout& layout, absl::Span<const std::string> printed_keys) {
  absl::flat_hash_set<absl::string_view> seen;
  seen.reserve(printed_keys.size());
  for (int i = 0; i < layout.leaves_size(); ++i) {
    const v1::Leaf& leaf = layout.leaves(i);
    const std::string& printed = printed_keys[i];
    if (absl::Status status = internal::ValidatePrintedKey(leaf.key(), printed); !status.ok()) {
      return Bad(absl::StrCat("leaf ", i), absl::StrCat("", status.message()));
    }
    if (!seen.insert(printed).second) {
      return Bad(LeafName(i, printed), "another leaf's key prints the same");
    }
    if (leaf.placement() == v1::PLACEMENT_UNSPECIFIED || !v1::Placement_IsValid(leaf.placement())) {
      return Bad(LeafName(i, printed),
                 absl::StrCat("no such placement: ", static_cast<int>(leaf.placement())));
    }
    CKPT_RETURN_IF_ERROR(IsTensorKind(leaf.kind()) ? CheckTensorLeaf(layout, i, printed)
                                                   : CheckPlainLeaf(leaf, i, printed));
  }
  return absl::OkStatus();
}

// Canonical order of two leaves: descending element size, then printed key.
std::strong_ordering CompareLeaves(const v1::Layout& layout,
                                   absl::Span<const std::string> printed_keys, uint32_t a,
                                   uint32_t b) {
  const uint64_t a_bytes = DTypeBytes(layout.leaves(static_cast<int>(a)).dtype());
  const uint64_t b_bytes = DTypeBytes(layout.leaves(static_cast<int>(b)).dtype());
  return a_bytes != b_bytes ? b_bytes <=> a_bytes : printed_keys[a] <=> printed_keys[b];
}

std::strong_ordering CompareBoxes(const v1::Box& a, const v1::Box& b) {
  const std::strong_ordering by_offset = std::lexicographical_compare_three_way(
      a.offset().begin(), a.offset().end(), b.offset().begin(), b.offset().end());
  if (by_offset != 0) return by_offset;
  return std::lexicographical_compare_three_way(a.extent().begin(), a.extent().end(),
                                                b.extent().begin(), b.extent().end());
}

// Sorts shards, whose leaf indices are valid, into canonical order.
void SortShards(absl::Span<const std::string> printed_keys, v1::Layout& layout) {
  auto& shards = *layout.mutable_shards();
  auto in_order = [&](const v1::Shard* a, const v1::Shard* b) {
    if (a->leaf() == b->leaf()) return CompareBoxes(a->box(), b->box()) < 0;
    return CompareLeaves(layout, printed_keys, a->leaf(), b->leaf()) < 0;
  };
  if (std::is_sorted(shards.pointer_begin(), shards.pointer_end(), in_order)) return;
  // Strings are compared once per leaf, not once per shard.
  struct Place {
    uint64_t element_bytes;
    absl::string_view printed;
    uint32_t leaf;
  };
  std::vector<Place> leaves;
  leaves.reserve(printed_keys.size());
  for (uint32_t i = 0; i < printed_keys.size(); ++i) {
    leaves.push_back(
        {DTypeBytes(layout.leaves(static_cast<int>(i)).dtype()), printed_keys[i], i});
  }
  std::sort(leaves.begin(), leaves.end(), [](const Place& a, const Place& b) {
    return a.element_bytes != b.element_bytes ? a.element_bytes > b.element_bytes
                                              : a.printed < b.printed;
  });
  std::vector<uint32_t> order(leaves.size());
  for (uint32_t i = 0; i < leaves.size(); ++i) order[leaves[i].leaf] = i;
  std::sort(shards.pointer_begin(), shards.pointer_end(),
            [&](const v1::Shard* a, const v1::Shard* b) {
              return a->leaf() != b->leaf() ? order[a->leaf()] < order[b->leaf()]
                                            : CompareBoxes(a->box(), b->box()) < 0;
            });
}

absl::Status CheckShardBox(const v1::Layout& layout, int i,
                           absl::Span<const std::string> printed_keys) {
  const v1::Shard& shard = layout.shards(i);
  const v1::Leaf& leaf = layout.leaves(static_cast<int>(shard.leaf()));
  const std::string& printed = printed_keys[shard.leaf()];
  auto refuse = [&](absl::string_view why) {
    return Bad(absl::StrCat("shard ", i, " of ", LeafName(shard.leaf(), printed)), why);
  };
  if (!IsTensorKind(leaf.kind())) return refuse("the leaf is no tensor");
  if (leaf.alias_of_plus_one() != 0) return refuse("the leaf is an alias");
  const Box box = Box::FromProto(shard.box());
  const absl::Status status =
      ValidateBox(box, absl::MakeConstSpan(leaf.shape().data(), leaf.shape_size()));
  if (!status.ok()) return refuse(absl::StrCat("", status.message()));
  if (box.empty()) return refuse(absl::StrCat("its box ", box.ToString(), " is empty"));
  return absl::OkStatus();
}

// Shards [first, last) are of one leaf.
absl::Status CheckDisjoint(const v1::Layout& layout, int first, int last,
                           absl::Span<const std::string> printed_keys) {
  if (last - first < 2) return absl::OkStatus();
  std::vector<Box> boxes;
  boxes.reserve(static_cast<size_t>(last - first));
  for (int i = first; i < last; ++i) boxes.push_back(Box::FromProto(layout.shards(i).box()));
  const absl::Status status = CheckTiling(boxes, nullptr);
  if (status.ok()) return status;
  const uint32_t leaf = layout.shards(first).leaf();
  return Bad(LeafName(leaf, printed_keys[leaf]), absl::StrCat("", status.message()));
}

// There is no map in a layout: nothing is left to chance.
std::string SerializeDeterministically(const v1::Layout& layout) {
  std::string out(layout.ByteSizeLong(), '\0');
  layout.SerializeWithCachedSizesToArray(reinterpret_cast<uint8_t*>(out.data()));
  return out;
}

absl::Status CheckCounts(const v1::Layout& layout) {
  if (static_cast<size_t>(layout.leaves_size()) > kLeavesPerPartMax) {
    return absl::InvalidArgumentError(absl::StrCat("bad layout: ", layout.leaves_size(),
                                                   " leaves, at most ", kLeavesPerPartMax,
                                                   " are allowed"));
  }
  if (static_cast<size_t>(layout.shards_size()) > kShardsPerPartMax) {
    return absl::InvalidArgumentError(absl::StrCat("bad layout: ", layout.shards_size(),
                                                   " shards, at most ", kShardsPerPartMax,
                                                   " are allowed"));
  }
  for (int i = 0; i < layout.shards_size(); ++i) {
    if (layout.shards(i).leaf() >= static_cast<uint32_t>(layout.leaves_size())) {
      return Bad(absl::StrCat("shard ", i),
                 absl::StrCat("leaf ", layout.shards(i).leaf(), " of ", layout.leaves_size()));
    }
  }
  return absl::OkStatus();
}

std::vector<std::string> PrintKeys(const v1::Layout& layout) {
  std::vector<std::string> printed;
  printed.reserve(static_cast<size_t>(layout.leaves_size()));
  for (const v1::Leaf& leaf : layout.leaves()) printed.push_back(PrintKey(leaf.key()));
  return printed;
}

}  // namespace

bool IsTensorKind(v1::LeafKind kind) {
  return kind == v1::LEAF_KIND_TENSOR || kind == v1::LEAF_KIND_STRING_BYTES ||
         kind == v1::LEAF_KIND_RAW_BYTES;
}

LayoutDraft::LayoutDraft()
    : arena(std::make_unique<google::protobuf::Arena>()),
      proto(google::protobuf::Arena::CreateMessage<v1::Layout>(arena.get())) {}

LayoutDraft::~LayoutDraft() = default;

absl::StatusOr<std::shared_ptr<const PartLayout>> PartLayout::FromBytes(std::string serialized) {
  CKPT_RETURN_IF_ERROR(internal::CheckLayoutWire(serialized));
  std::shared_ptr<PartLayout> layout(new PartLayout(LayoutDraft()));
  if (!layout->draft_.proto->ParseFromString(serialized)) {
    return absl::InvalidArgumentError("bad layout: it does not parse");
  }
  // One layout has one digest: nothing that reads the same may be written differently.
  if (SerializeDeterministically(layout->proto()) != serialized) {
    return absl::InvalidArgumentError(
        "bad layout: not in canonical form; serialize the message with fields in ascending order");
  }
  layout->serialized_ = std::move(serialized);
  CKPT_RETURN_IF_ERROR(CheckCounts(layout->proto()));
  layout->printed_keys_ = PrintKeys(layout->proto());
  CKPT_RETURN_IF_ERROR(CheckLeaves(layout->proto(), layout->printed_keys_));
  CKPT_RETURN_IF_ERROR(layout->Index());
  if (layout->proto().replicated_digest() != ReplicatedDigest(layout->proto())) {
    return absl::InvalidArgumentError(
        "bad layout: replicated_digest is not the digest of its replicated leaves");
  }
  return layout;
}

absl::StatusOr<std::shared_ptr<const PartLayout>> PartLayout::FromDraft(LayoutDraft draft) {
  v1::Layout& proto = *draft.proto;
  CKPT_RETURN_IF_ERROR(CheckCounts(proto));
  std::shared_ptr<PartLayout> layout(new PartLayout(std::move(draft)));
  layout->printed_keys_ = PrintKeys(proto);
  // Before it is serialized: Protobuf complains on stderr of strings that are no UTF-8.
  CKPT_RETURN_IF_ERROR(CheckLeaves(proto, layout->printed_keys_));
  SortShards(layout->printed_keys_, proto);
  proto.set_replicated_digest(ReplicatedDigest(proto));
  layout->serialized_ = SerializeDeterministically(proto);
  if (layout->serialized_.size() > kLayoutBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat("bad layout: ", layout->serialized_.size(),
                                                   " bytes, at most ", kLayoutBytesMax,
                                                   " are allowed"));
  }
  CKPT_RETURN_IF_ERROR(layout->Index());
  return layout;
}

absl::StatusOr<std::shared_ptr<const PartLayout>> PartLayout::FromProto(const v1::Layout& proto) {
  LayoutDraft draft;
  *draft.proto = proto;
  return FromDraft(std::move(draft));
}

absl::Status PartLayout::Index() {
  CKPT_RETURN_IF_ERROR(IndexShards());
  digest_ = Sha256(serialized_);
  return absl::OkStatus();
}

absl::Status PartLayout::IndexShards() {
  shards_.reserve(static_cast<size_t>(proto().shards_size()));
  uint64_t header_bytes = 0;
  int first_of_leaf = 0;
  for (int i = 0; i < proto().shards_size(); ++i) {
    const v1::Shard& shard = proto().shards(i);
    CKPT_RETURN_IF_ERROR(CheckShardBox(proto(), i, printed_keys_));
    if (i > 0) {
      const v1::Shard& before = proto().shards(i - 1);
      const bool same_leaf = before.leaf() == shard.leaf();
      if ((same_leaf ? CompareBoxes(before.box(), shard.box())
                     : CompareLeaves(proto(), printed_keys_, before.leaf(), shard.leaf())) >= 0) {
        return Bad(absl::StrCat("shard ", i), "out of order, or there twice");
      }
      if (!same_leaf) {
        CKPT_RETURN_IF_ERROR(CheckDisjoint(proto(), first_of_leaf, i, printed_keys_));
        first_of_leaf = i;
      }
    }
    const v1::Leaf& leaf = proto().leaves(static_cast<int>(shard.leaf()));
    const uint64_t header_bytes_more = HeaderBytesBound(leaf, printed_keys_[shard.leaf()]);
    if (files_.empty() ||
        header_bytes + header_bytes_more > kHeaderBytesMax - kHeaderReserveBytes) {
      part_bytes_ +=
          (kDataAlignmentBytes - part_bytes_ % kDataAlignmentBytes) % kDataAlignmentBytes;
      files_.push_back({part_bytes_, 0, static_cast<uint32_t>(i), 0});
      header_bytes = 0;
    }
    header_bytes += header_bytes_more;
    uint64_t length = DTypeBytes(leaf.dtype());
    for (const uint64_t extent : shard.box().extent()) length *= extent;
    if (length > kPartBytesMax || part_bytes_ > kPartBytesMax - length) {
      return absl::InvalidArgumentError(
          absl::StrCat("bad layout: the part has more than ", kPartBytesMax, " bytes"));
    }
    shards_.push_back(
        {part_bytes_, length, static_cast<uint32_t>(files_.size() - 1), block_count_});
    part_bytes_ += length;
    data_bytes_ += length;
    block_count_ += (length + kHashBlockBytes - 1) / kHashBlockBytes;
    files_.back().length += length;
    ++files_.back().shard_count;
  }
  return CheckDisjoint(proto(), first_of_leaf, proto().shards_size(), printed_keys_);
}

absl::Status ValidateValues(const v1::Values& values, const PartLayout& layout) {
  auto refuse = [](uint32_t leaf, absl::string_view why) {
    return absl::InvalidArgumentError(absl::StrCat("bad values: leaf ", leaf, ": ", why));
  };
  std::vector<bool> seen(layout.printed_keys().size(), false);
  for (const v1::Values::Entry& entry : values.entries()) {
    const uint32_t leaf = entry.leaf();
    if (leaf >= seen.size()) return refuse(leaf, absl::StrCat("the layout has ", seen.size()));
    if (layout.proto().leaves(static_cast<int>(leaf)).kind() != v1::LEAF_KIND_VALUE) {
      return refuse(leaf, absl::StrCat(Quoted(layout.printed_keys()[leaf]), " is no plain value"));
    }
    if (seen[leaf]) return refuse(leaf, "it has two values");
    seen[leaf] = true;
    const v1::Value& value = entry.value();
    if (value.kind_case() == v1::Value::KIND_NOT_SET) return refuse(leaf, "a value without a kind");
    if (value.text().size() > kValueInlineBytesMax || value.raw().size() > kValueInlineBytesMax) {
      return refuse(leaf, absl::StrCat("longer than ", kValueInlineBytesMax,
                                       " bytes; it must be stored as a tensor"));
    }
  }
  return absl::OkStatus();
}

}  // namespace ckpt
