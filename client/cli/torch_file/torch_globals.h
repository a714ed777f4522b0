// The names that a torch.save file may refer to. They are never looked up anywhere but here.
#ifndef CKPT_CLIENT_CLI_TORCH_FILE_TORCH_GLOBALS_H_
#define CKPT_CLIENT_CLI_TORCH_FILE_TORCH_GLOBALS_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/dtype.h"

namespace ckpt::cli {

struct TorchGlobal {
  enum class Kind : uint8_t {
    kOrderedDict,
    kRebuildTensor,     // storage, offset, size, strides
    kRebuildTensorV2,   // and requires_grad, backward hooks, perhaps metadata
    kRebuildTensorV3,   // and a dtype before the metadata: for storages without one
    kRebuildParameter,  // tensor, requires_grad, backward hooks
    kSize,
    kEncode,     // how protocol 2 writes bytes
    kEmptyBytes,
    kTagged,     // what LibTorch's pickler wraps containers in; its first argument is the container
    kStorage,
    kDType,
  };
  Kind kind;
  DType dtype = v1::DTYPE_UNSPECIFIED;  // kStorage: unspecified where it is untyped
};

// INVALID_ARGUMENT: "refuses posix.system: ...".
absl::StatusOr<TorchGlobal> FindTorchGlobal(absl::string_view module, absl::string_view name);

// "FloatStorage" and "float32" of the module torch, for what a file is written with. Empty where
// PyTorch has no such storage class: those dtypes have untyped storages.
absl::string_view TorchStorageName(DType dtype);
absl::string_view TorchDTypeName(DType dtype);

}  // namespace ckpt::cli

#endif  // CKPT_CLIENT_CLI_TORCH_FILE_TORCH_GLOBALS_H_
