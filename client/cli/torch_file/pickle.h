// Pickles of protocol 2 to 4 as torch.save writes them, read without executing anything: of the
// things that a pickle may call, a fixed table is known (torch_globals.h), and each entry of it
// stands for code of this folder. Everything else is refused by its name.
#ifndef CKPT_CLIENT_CLI_TORCH_FILE_PICKLE_H_
#define CKPT_CLIENT_CLI_TORCH_FILE_PICKLE_H_

#include <cstdint>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/cli/torch_file/torch_globals.h"
#include "common/box.h"
#include "common/dtype.h"

namespace ckpt::cli {

// Strings point into the pickle.
struct PickleText {
  absl::string_view utf8;  // unchecked
};
struct PickleBytes {
  absl::string_view bytes;
};
struct PickleLatin1 {  // bytes as protocol 2 has them: UTF-8 of one character for each byte
  absl::string_view utf8;
};
struct PickleHugeInteger {};  // of more than 64 bits
// Each an index into the vector of its name in Pickle.
struct PickleList {
  uint32_t index;
  bool is_tuple = false;
};
struct PickleDict {
  uint32_t index;
};
struct PickleStorage {
  uint32_t index;
};
struct PickleTensor {
  uint32_t index;
};
using PickleValue =
    std::variant<std::monostate, bool, int64_t, double, PickleText, PickleBytes, PickleLatin1,
                 PickleHugeInteger, TorchGlobal, PickleList, PickleDict, PickleStorage,
                 PickleTensor>;

// Bytes that lie in the archive, beside the pickle.
struct TorchStorage {
  absl::string_view key;  // the entry's name is data/KEY; letters, digits, '_', '-'
  DType dtype = v1::DTYPE_UNSPECIFIED;  // unspecified: untyped
  uint64_t bytes = 0;
};

// A view of a storage that lies within it, as the pickle says.
struct TorchTensor {
  uint32_t storage = 0;
  DType dtype = v1::DTYPE_UNSPECIFIED;
  uint64_t offset = 0;  // elements
  Extents shape;
  Extents strides;  // elements; of the same length
};

struct Pickle {
  PickleValue root;
  std::vector<std::vector<PickleValue>> lists;  // tuples too
  std::vector<std::vector<std::pair<PickleValue, PickleValue>>> dicts;  // in order of insertion
  std::vector<TorchStorage> storages;                                   // each key once
  std::vector<TorchTensor> tensors;
};

// `bytes` must outlive the result. Containers may hold each other and themselves: whoever walks
// them bounds the depth and the number of visits. Takes memory in proportion to `bytes`, whatever
// stands in them. INVALID_ARGUMENT names the offset, and what was refused there.
absl::StatusOr<Pickle> ReadPickle(absl::string_view bytes);

// "a dictionary", "a tensor": for messages.
absl::string_view KindName(const PickleValue& value);

}  // namespace ckpt::cli

#endif  // CKPT_CLIENT_CLI_TORCH_FILE_PICKLE_H_
