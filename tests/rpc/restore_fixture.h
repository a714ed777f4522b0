// Restore plans over a real index and data folder: making layouts, asking, checking bytes.
#ifndef CKPT_TESTS_RPC_RESTORE_FIXTURE_H_
#define CKPT_TESTS_RPC_RESTORE_FIXTURE_H_

#include <string>
#include <vector>

#include "common/digest.h"
#include "common/key.h"
#include "server/storage/names.h"
#include "tests/rpc/rpc_fixture.h"

namespace ckpt {

inline v1::Leaf* AddTensor(v1::Layout& layout, absl::string_view name, v1::Placement placement,
                    std::vector<uint64_t> shape, v1::DType dtype = v1::DTYPE_F32) {
  v1::Leaf* leaf = layout.add_leaves();
  *leaf->mutable_key() = MakeKey({name});
  leaf->set_kind(v1::LEAF_KIND_TENSOR);
  leaf->set_placement(placement);
  leaf->set_dtype(dtype);
  for (const uint64_t extent : shape) leaf->add_shape(extent);
  return leaf;
}

inline void AddShard(v1::Layout& layout, uint32_t leaf, std::vector<uint64_t> offset,
              std::vector<uint64_t> extent) {
  v1::Shard* shard = layout.add_shards();
  shard->set_leaf(leaf);
  for (const uint64_t value : offset) shard->mutable_box()->add_offset(value);
  for (const uint64_t value : extent) shard->mutable_box()->add_extent(value);
}

class RestoreTest : public RpcTest {
 protected:
  static v1::PlanRestoreRequest RequestOf(const v1::Selector& selector) {
    v1::PlanRestoreRequest request;
    *request.mutable_selector() = selector;
    return request;
  }
  // Every block of a piece's bytes has the hash that the plan says.
  static bool Verifies(const v1::Piece& piece, const std::string& bytes) {
    for (int i = 0; i < piece.block_hashes_size(); ++i) {
      const uint64_t begin = (piece.first_block() + i) * piece.block_bytes();
      if (begin >= bytes.size()) return false;
      if (Xxh3(absl::string_view(bytes).substr(begin, piece.block_bytes())) !=
          piece.block_hashes(i)) {
        return false;
      }
    }
    return true;
  }
  // Of rank 0's part manifest.
  std::string PartPath(const CheckpointRecord& record) {
    return store_->folder().ObjectsFolder() + "/" +
           names::PartManifest(*FileId::FromBytes(record.manifest.parts(0).manifest_id(), "id"));
  }
  std::string ObjectPath(const std::string& file_id) {
    return store_->folder().ObjectsFolder() + "/" +
           names::DataFile(*FileId::FromBytes(file_id, "file_id"));
  }
};

}  // namespace ckpt

#endif  // CKPT_TESTS_RPC_RESTORE_FIXTURE_H_
