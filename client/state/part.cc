#include "client/state/part.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/state/plan_cache.h"
#include "common/key.h"
#include "common/limits.h"
#include "common/replication.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

// A long string or byte string becomes a U8 tensor that owns its bytes.
void BecomeTensor(PartLeaf& leaf, v1::LeafKind kind, std::string bytes) {
  leaf.leaf.set_kind(kind);
  leaf.leaf.set_dtype(v1::DTYPE_U8);
  leaf.leaf.add_shape(bytes.size());
  const uint64_t shape[1] = {bytes.size()};
  leaf.box = Box::Whole(shape);
  leaf.copy = [owned = std::make_shared<const std::string>(std::move(bytes))](
                  uint64_t begin, uint64_t count, std::byte* out) {
    std::memcpy(out, owned->data() + begin, count);
  };
}

absl::Status At(const PartLeaf& leaf, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("leaf ", PrintKey(leaf.leaf.key()), ": ", what));
}

absl::Span<const uint64_t> ShapeOf(const v1::Leaf& leaf) {
  return absl::MakeConstSpan(leaf.shape().data(), static_cast<size_t>(leaf.shape_size()));
}

bool StoresBytes(const PartLeaf& leaf) {
  return IsTensorKind(leaf.leaf.kind()) && leaf.leaf.alias_of_plus_one() == 0;
}

absl::Status CheckRanks(const Part& part) {
  if (part.world_size == 0 || part.world_size > kWorldSizeMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("world size must be 1 to ", kWorldSizeMax, "; got ", part.world_size));
  }
  if (part.rank >= part.world_size) {
    return absl::InvalidArgumentError(
        absl::StrCat("rank ", part.rank, " is not in a world of ", part.world_size));
  }
  for (size_t i = 0; i < part.share.size(); ++i) {
    if (part.share[i] >= part.world_size || (i > 0 && part.share[i] <= part.share[i - 1])) {
      return absl::InvalidArgumentError(absl::StrCat(
          "a share must be a sorted list of distinct ranks below the world size; rank ",
          part.share[i], " is out of place"));
    }
  }
  if (!part.share.empty() && !std::binary_search(part.share.begin(), part.share.end(), part.rank)) {
    return absl::InvalidArgumentError(
        absl::StrCat("rank ", part.rank, " is not in the share it saves with"));
  }
  return absl::OkStatus();
}

// What this rank holds of a tensor-like leaf must be what its placement says.
absl::Status CheckBox(const PartLeaf& leaf) {
  const absl::Span<const uint64_t> shape = ShapeOf(leaf.leaf);
  if (!Volume(shape).has_value()) return At(leaf, "the shape's volume is too large");
  if (leaf.leaf.placement() != v1::PLACEMENT_SHARDED) {
    if (leaf.box != Box::Whole(shape)) {
      return At(leaf, "a replicated or per-rank tensor is given whole; its box is another");
    }
    return absl::OkStatus();
  }
  if (const absl::Status valid = ValidateBox(leaf.box, shape); !valid.ok()) {
    return At(leaf, valid.message());
  }
  if (leaf.replica_count == 0 || leaf.replica_index >= leaf.replica_count) {
    return At(leaf, absl::StrCat("replica ", leaf.replica_index, " of ", leaf.replica_count));
  }
  return absl::OkStatus();
}

uint32_t MemberOf(const Part& part) {
  if (part.share.empty()) return part.rank;
  return static_cast<uint32_t>(std::lower_bound(part.share.begin(), part.share.end(), part.rank) -
                               part.share.begin());
}

void AddShard(v1::Layout& layout, size_t leaf, const Box& box) {
  if (box.empty()) return;
  v1::Shard* shard = layout.add_shards();
  shard->set_leaf(static_cast<uint32_t>(leaf));
  box.ToProto(shard->mutable_box());
}

// Where a shard begins in the dense array of the box that this rank holds. All shards are made by
// cutting along the first dimension that is wider than 1, so they are contiguous there.
uint64_t SourceOffset(const Box& shard, const Box& held, uint64_t element_bytes) {
  uint64_t element = 0;
  for (size_t d = 0; d < held.rank(); ++d) {
    element = element * held.extent[d] + (shard.offset[d] - held.offset[d]);
  }
  return element * element_bytes;
}

}  // namespace

PartLeaf ValueLeaf(v1::Key key, v1::Value value, v1::Placement placement) {
  PartLeaf leaf;
  *leaf.leaf.mutable_key() = std::move(key);
  leaf.leaf.set_placement(placement);
  if (value.kind_case() == v1::Value::kText && value.text().size() > kValueInlineBytesMax) {
    BecomeTensor(leaf, v1::LEAF_KIND_STRING_BYTES, std::move(*value.mutable_text()));
  } else if (value.kind_case() == v1::Value::kRaw && value.raw().size() > kValueInlineBytesMax) {
    BecomeTensor(leaf, v1::LEAF_KIND_RAW_BYTES, std::move(*value.mutable_raw()));
  } else {
    leaf.leaf.set_kind(v1::LEAF_KIND_VALUE);
    leaf.value = std::move(value);
  }
  return leaf;
}

PartLeaf TensorLeaf(v1::Key key, DType dtype, absl::Span<const uint64_t> shape, const void* data,
                    v1::Placement placement) {
  PartLeaf leaf;
  *leaf.leaf.mutable_key() = std::move(key);
  leaf.leaf.set_kind(v1::LEAF_KIND_TENSOR);
  leaf.leaf.set_placement(placement);
  leaf.leaf.set_dtype(dtype);
  for (const uint64_t extent : shape) leaf.leaf.add_shape(extent);
  leaf.box = Box::Whole(shape);
  leaf.data = static_cast<const std::byte*>(data);
  return leaf;
}

PartLeaf ShardLeaf(v1::Key key, DType dtype, absl::Span<const uint64_t> global_shape, Box box,
                   const void* data) {
  PartLeaf leaf = TensorLeaf(std::move(key), dtype, global_shape, data, v1::PLACEMENT_SHARDED);
  leaf.box = std::move(box);
  return leaf;
}

absl::StatusOr<PartStructure> MakePartStructure(const Part& part) {
  CKPT_RETURN_IF_ERROR(CheckRanks(part));
  LayoutDraft draft;
  v1::Layout& layout = *draft.proto;
  layout.mutable_leaves()->Reserve(static_cast<int>(part.leaves.size()));
  bool any_replicated = false;
  for (const PartLeaf& leaf : part.leaves) {
    if (StoresBytes(leaf)) CKPT_RETURN_IF_ERROR(CheckBox(leaf));
    any_replicated |= leaf.leaf.placement() == v1::PLACEMENT_REPLICATED;
    *layout.add_leaves() = leaf.leaf;
  }
  const auto members =
      static_cast<uint32_t>(part.share.empty() ? part.world_size : part.share.size());
  std::vector<Box> replicated;
  if (any_replicated) {
    replicated = ReplicatedBoxes(
        absl::MakeConstSpan(layout.leaves().data(), part.leaves.size()), MemberOf(part), members);
  }
  for (size_t i = 0; i < part.leaves.size(); ++i) {
    const PartLeaf& leaf = part.leaves[i];
    if (!StoresBytes(leaf)) continue;
    switch (leaf.leaf.placement()) {
      case v1::PLACEMENT_REPLICATED:
        if (replicated[i].rank() == leaf.box.rank()) AddShard(layout, i, replicated[i]);
        break;
      case v1::PLACEMENT_SHARDED:
        if (leaf.replica_count == 1) {
          AddShard(layout, i, leaf.box);
        } else if (!leaf.box.empty()) {
          AddShard(layout, i, ReplicaBox(leaf.box, leaf.replica_index, leaf.replica_count));
        }
        break;
      default:
        AddShard(layout, i, leaf.box);
    }
  }
  PartStructure structure;
  CKPT_ASSIGN_OR_RETURN(structure.layout, PartLayout::FromDraft(std::move(draft)));
  structure.sources.reserve(structure.layout->shards().size());
  for (const v1::Shard& shard : structure.layout->proto().shards()) {
    const PartLeaf& leaf = part.leaves[shard.leaf()];
    structure.sources.push_back({shard.leaf(), SourceOffset(Box::FromProto(shard.box()), leaf.box,
                                                            DTypeBytes(leaf.leaf.dtype()))});
  }
  return structure;
}

absl::Status CheckSources(const Part& part, const PartStructure& structure) {
  for (const PartPlan::ShardSource& source : structure.sources) {
    const PartLeaf& leaf = part.leaves[source.leaf];
    if (leaf.data == nullptr && !leaf.copy) {
      return At(leaf, "has bytes to save, but neither data nor copy is set");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::Values> CollectValues(const Part& part, const PartLayout& layout) {
  v1::Values values;
  const bool writes_replicated = MemberOf(part) == 0;
  for (size_t i = 0; i < part.leaves.size(); ++i) {
    const PartLeaf& leaf = part.leaves[i];
    if (leaf.leaf.kind() != v1::LEAF_KIND_VALUE) continue;
    const size_t bytes = leaf.value.kind_case() == v1::Value::kText  ? leaf.value.text().size()
                         : leaf.value.kind_case() == v1::Value::kRaw ? leaf.value.raw().size()
                                                                     : 0;
    if (bytes > kValueInlineBytesMax) {
      return At(leaf, absl::StrCat("a value of ", bytes, " bytes; more than ", kValueInlineBytesMax,
                                   " is stored as a tensor: make it with ValueLeaf"));
    }
    if (leaf.leaf.placement() == v1::PLACEMENT_REPLICATED && !writes_replicated) continue;
    v1::Values::Entry* entry = values.add_entries();
    entry->set_leaf(static_cast<uint32_t>(i));
    *entry->mutable_value() = leaf.value;
  }
  CKPT_RETURN_IF_ERROR(ValidateValues(values, layout));
  return values;
}

absl::StatusOr<PartPlan> MakePartPlan(const Part& part) {
  CKPT_ASSIGN_OR_RETURN(PartStructure structure, MakePartStructure(part));
  CKPT_RETURN_IF_ERROR(CheckSources(part, structure));
  PartPlan plan;
  CKPT_ASSIGN_OR_RETURN(plan.values, CollectValues(part, *structure.layout));
  plan.layout = std::move(structure.layout);
  plan.sources = std::move(structure.sources);
  return plan;
}

}  // namespace ckpt
