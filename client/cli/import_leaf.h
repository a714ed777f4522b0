// One entry of a state that is being imported, whatever kind of file it comes from.
#ifndef CKPT_CLIENT_CLI_IMPORT_LEAF_H_
#define CKPT_CLIENT_CLI_IMPORT_LEAF_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>

#include "absl/status/status.h"
#include "ckpt/v1/checkpoint.pb.h"
#include "common/box.h"
#include "common/dtype.h"

namespace ckpt::cli {

struct ImportLeaf {
  v1::Key key;
  v1::LeafKind kind = v1::LEAF_KIND_TENSOR;  // or VALUE (of any length), EMPTY_DICT, EMPTY_LIST

  // Tensors.
  DType dtype = v1::DTYPE_UNSPECIFIED;
  Extents shape;
  std::optional<size_t> alias_of;  // the same bytes as that earlier leaf's; `read` works as well
  // Bytes [begin, begin + bytes) of the dense, row-major, little-endian array. Thread-safe; keeps
  // its file open.
  std::function<absl::Status(uint64_t begin, uint64_t bytes, void* out)> read;

  v1::Value value;
};

}  // namespace ckpt::cli

#endif  // CKPT_CLIENT_CLI_IMPORT_LEAF_H_
