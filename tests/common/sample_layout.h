// Small layouts for tests: leaves by a short call.
#ifndef CKPT_TESTS_COMMON_SAMPLE_LAYOUT_H_
#define CKPT_TESTS_COMMON_SAMPLE_LAYOUT_H_

#include <initializer_list>
#include <string>

#include "common/box.h"
#include "common/dtype.h"
#include "common/key.h"

namespace ckpt {

inline v1::Leaf TensorNamed(const std::string& name, DType dtype,
                            std::initializer_list<uint64_t> shape,
                            v1::Placement placement = v1::PLACEMENT_REPLICATED) {
  v1::Leaf leaf;
  *leaf.mutable_key() = MakeKey({name});
  leaf.set_kind(v1::LEAF_KIND_TENSOR);
  leaf.set_placement(placement);
  leaf.set_dtype(dtype);
  for (const uint64_t extent : shape) leaf.add_shape(extent);
  return leaf;
}

inline v1::Leaf ValueNamed(const std::string& name) {
  v1::Leaf leaf;
  *leaf.mutable_key() = MakeKey({name});
  leaf.set_kind(v1::LEAF_KIND_VALUE);
  leaf.set_placement(v1::PLACEMENT_PER_RANK);
  return leaf;
}

inline void AddShard(uint32_t leaf, const Box& box, v1::Layout& layout) {
  v1::Shard* shard = layout.add_shards();
  shard->set_leaf(leaf);
  box.ToProto(shard->mutable_box());
}

inline Box WholeOf(const v1::Leaf& leaf) {
  return Box::Whole(Extents(leaf.shape().begin(), leaf.shape().end()));
}

inline absl::Span<const uint64_t> ShapeOf(const v1::Leaf& leaf) {
  return absl::MakeConstSpan(leaf.shape().data(), static_cast<size_t>(leaf.shape_size()));
}

// Tensors of all sorts: several dtypes, a box of a sharded one in two pieces, a scalar, a tensor
// without elements, an alias, values, empty containers.
inline v1::Layout SampleLayout() {
  v1::Layout layout;
  *layout.add_leaves() = TensorNamed("weight", v1::DTYPE_F32, {4, 6});
  *layout.add_leaves() = TensorNamed("bytes", v1::DTYPE_U8, {5});
  *layout.add_leaves() = TensorNamed("rows", v1::DTYPE_BF16, {8, 3}, v1::PLACEMENT_SHARDED);
  *layout.add_leaves() = TensorNamed("scalar", v1::DTYPE_F64, {});
  *layout.add_leaves() = TensorNamed("nothing", v1::DTYPE_F32, {0, 6});
  *layout.add_leaves() = TensorNamed("tied", v1::DTYPE_F32, {4, 6});
  layout.mutable_leaves(5)->set_alias_of_plus_one(1);
  *layout.add_leaves() = ValueNamed("epoch");
  v1::Leaf* dict = layout.add_leaves();
  *dict->mutable_key() = MakeKey({"empty"});
  dict->set_kind(v1::LEAF_KIND_EMPTY_DICT);
  dict->set_placement(v1::PLACEMENT_PER_RANK);
  *layout.add_leaves() = TensorNamed("wave", v1::DTYPE_C64, {2}, v1::PLACEMENT_PER_RANK);
  // In canonical order.
  AddShard(3, Box{}, layout);
  AddShard(8, WholeOf(layout.leaves(8)), layout);
  AddShard(0, WholeOf(layout.leaves(0)), layout);
  AddShard(2, {{4, 0}, {2, 3}}, layout);
  AddShard(2, {{6, 1}, {2, 2}}, layout);
  AddShard(1, WholeOf(layout.leaves(1)), layout);
  return layout;
}

}  // namespace ckpt

#endif  // CKPT_TESTS_COMMON_SAMPLE_LAYOUT_H_
