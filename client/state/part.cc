#include "client/state/part.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/state/plan_cache.h"
#include "common/limits.h"
#include "common/replication.h"
#include "common/status_macros.h"
#include "common/values.h"

namespace ckpt {
namespace {

// Views into the leaf.
LeafDeclaration DeclarationOf(const PartLeaf& leaf) {
  return {.key = leaf.key.serialized(),
          .kind = leaf.kind,
          .placement = leaf.placement,
          .dtype = leaf.dtype,
          .shape = leaf.shape,
          .alias_of_plus_one = leaf.alias_of_plus_one};
}

// A long string or byte string becomes a U8 tensor that owns its bytes.
void BecomeTensor(PartLeaf& leaf, v1::LeafKind kind, std::string bytes) {
  leaf.kind = kind;
  leaf.dtype = v1::DTYPE_U8;
  leaf.shape = {bytes.size()};
  leaf.box = Box::Whole(leaf.shape);
  leaf.copy = [owned = std::make_shared<const std::string>(std::move(bytes))](
                  uint64_t begin, uint64_t count, std::byte* out) {
    std::memcpy(out, owned->data() + begin, count);
  };
}

absl::Status At(const PartLeaf& leaf, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("leaf ", PrintKey(leaf.key), ": ", what));
}

bool StoresBytes(const PartLeaf& leaf) {
  return IsTensorKind(leaf.kind) && leaf.alias_of_plus_one == 0;
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
  const Extents& shape = leaf.shape;
  if (!Volume(shape).has_value()) return At(leaf, "the shape's volume is too large");
  if (leaf.placement != v1::PLACEMENT_SHARDED) {
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

// Where a shard begins in the dense array of the box that this rank holds. All shards are made by
// cutting along the first dimension that is wider than 1, so they are contiguous there.
uint64_t SourceOffset(const ShardView& shard, const Box& held, uint64_t element_bytes) {
  uint64_t element = 0;
  for (size_t d = 0; d < held.rank(); ++d) {
    element = element * held.extent[d] + (shard.offset[d] - held.offset[d]);
  }
  return element * element_bytes;
}

}  // namespace

PartLeaf ValueLeaf(Key key, v1::Value value, v1::Placement placement) {
  PartLeaf leaf;
  leaf.key = std::move(key);
  leaf.placement = placement;
  if (value.kind_case() == v1::Value::kText && value.text().size() > kValueInlineBytesMax) {
    BecomeTensor(leaf, v1::LEAF_KIND_STRING_BYTES, std::move(*value.mutable_text()));
  } else if (value.kind_case() == v1::Value::kRaw && value.raw().size() > kValueInlineBytesMax) {
    BecomeTensor(leaf, v1::LEAF_KIND_RAW_BYTES, std::move(*value.mutable_raw()));
  } else {
    leaf.kind = v1::LEAF_KIND_VALUE;
    leaf.value = std::move(value);
  }
  return leaf;
}

PartLeaf TensorLeaf(Key key, DType dtype, absl::Span<const uint64_t> shape, const void* data,
                    v1::Placement placement) {
  PartLeaf leaf;
  leaf.key = std::move(key);
  leaf.kind = v1::LEAF_KIND_TENSOR;
  leaf.placement = placement;
  leaf.dtype = dtype;
  leaf.shape.assign(shape.begin(), shape.end());
  leaf.box = Box::Whole(shape);
  leaf.data = static_cast<const std::byte*>(data);
  return leaf;
}

PartLeaf ShardLeaf(Key key, DType dtype, absl::Span<const uint64_t> global_shape, Box box,
                   const void* data) {
  PartLeaf leaf = TensorLeaf(std::move(key), dtype, global_shape, data, v1::PLACEMENT_SHARDED);
  leaf.box = std::move(box);
  return leaf;
}

absl::StatusOr<PartStructure> MakePartStructure(const Part& part) {
  CKPT_RETURN_IF_ERROR(CheckRanks(part));
  LayoutBuilder layout;
  layout.Reserve(part.leaves.size());
  bool any_replicated = false;
  for (const PartLeaf& leaf : part.leaves) {
    if (StoresBytes(leaf)) CKPT_RETURN_IF_ERROR(CheckBox(leaf));
    any_replicated |= leaf.placement == v1::PLACEMENT_REPLICATED;
    CKPT_RETURN_IF_ERROR(layout.AddLeaf(DeclarationOf(leaf)));
  }
  const auto members =
      static_cast<uint32_t>(part.share.empty() ? part.world_size : part.share.size());
  std::vector<Box> replicated;
  if (any_replicated) {
    replicated = ReplicatedBoxes(layout.leaves().Views(), MemberOf(part), members);
  }
  for (size_t i = 0; i < part.leaves.size(); ++i) {
    const PartLeaf& leaf = part.leaves[i];
    if (!StoresBytes(leaf)) continue;
    Box box = leaf.box;
    if (leaf.placement == v1::PLACEMENT_REPLICATED) {
      box = replicated[i];
    } else if (leaf.placement == v1::PLACEMENT_SHARDED && leaf.replica_count > 1) {
      box = ReplicaBox(leaf.box, leaf.replica_index, leaf.replica_count);
    }
    if (!box.empty()) CKPT_RETURN_IF_ERROR(layout.AddShard(static_cast<uint32_t>(i), box));
  }
  PartStructure structure;
  CKPT_ASSIGN_OR_RETURN(structure.layout, layout.Build());
  const ShardTable& shards = structure.layout->shard_boxes();
  structure.sources.reserve(shards.size());
  for (size_t s = 0; s < shards.size(); ++s) {
    const ShardView shard = shards[s];
    const PartLeaf& leaf = part.leaves[shard.leaf];
    structure.sources.push_back(
        {shard.leaf, SourceOffset(shard, leaf.box, DTypeBytes(leaf.dtype))});
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
    if (leaf.kind != v1::LEAF_KIND_VALUE) continue;
    const size_t bytes = leaf.value.kind_case() == v1::Value::kText  ? leaf.value.text().size()
                         : leaf.value.kind_case() == v1::Value::kRaw ? leaf.value.raw().size()
                                                                     : 0;
    if (bytes > kValueInlineBytesMax) {
      return At(leaf, absl::StrCat("a value of ", bytes, " bytes; more than ", kValueInlineBytesMax,
                                   " is stored as a tensor: make it with ValueLeaf"));
    }
    if (leaf.placement == v1::PLACEMENT_REPLICATED && !writes_replicated) continue;
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
