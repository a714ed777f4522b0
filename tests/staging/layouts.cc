#include "tests/staging/layouts.h"

#include "common/key.h"

namespace ckpt {

LayoutMaker& LayoutMaker::Add(const std::string& key, v1::Placement placement, DType dtype,
                              const std::vector<uint64_t>& shape, const Box& box) {
  v1::Leaf* leaf = layout_.add_leaves();
  *leaf->mutable_key() = MakeKey({key});
  leaf->set_kind(v1::LEAF_KIND_TENSOR);
  leaf->set_placement(placement);
  leaf->set_dtype(dtype);
  for (uint64_t extent : shape) leaf->add_shape(extent);
  if (!box.extent.empty() && !box.empty()) {
    v1::Shard* shard = layout_.add_shards();
    shard->set_leaf(static_cast<uint32_t>(layout_.leaves_size() - 1));
    box.ToProto(shard->mutable_box());
  }
  return *this;
}

LayoutMaker& LayoutMaker::PerRank(const std::string& key, uint64_t bytes) {
  const std::vector<uint64_t> shape = {bytes};
  return Add(key, v1::PLACEMENT_PER_RANK, v1::DTYPE_U8, shape, Box::Whole(shape));
}

LayoutMaker& LayoutMaker::PerRankValue(const std::string& key) {
  v1::Leaf* leaf = layout_.add_leaves();
  *leaf->mutable_key() = MakeKey({key});
  leaf->set_kind(v1::LEAF_KIND_VALUE);
  leaf->set_placement(v1::PLACEMENT_PER_RANK);
  return *this;
}

LayoutMaker& LayoutMaker::Sharded(const std::string& key, std::vector<uint64_t> shape, Box box,
                                  DType dtype) {
  return Add(key, v1::PLACEMENT_SHARDED, dtype, shape, box);
}

LayoutMaker& LayoutMaker::Replicated(const std::string& key, std::vector<uint64_t> shape, Box box) {
  return Add(key, v1::PLACEMENT_REPLICATED, v1::DTYPE_U8, shape, box);
}

std::shared_ptr<const PartLayout> LayoutMaker::Make() {
  return PartLayout::FromProto(layout_).value();
}

Box Rows(uint64_t begin, uint64_t end, uint64_t columns) {
  Box box;
  box.offset = {begin, 0};
  box.extent = {end - begin, columns};
  return box;
}

std::shared_ptr<const PartLayout> PlainLayout(uint64_t bytes) {
  return LayoutMaker().PerRank("tensor", bytes).Make();
}

std::string Pattern(uint64_t bytes, uint32_t seed) {
  std::string pattern(bytes, '\0');
  uint64_t state = seed * 0x9E3779B97F4A7C15u + 1;
  for (char& byte : pattern) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    byte = static_cast<char>(state >> 56);
  }
  return pattern;
}

}  // namespace ckpt
