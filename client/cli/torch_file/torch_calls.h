// What the calls in a torch.save file come to: a storage that is named, a view of one, a parameter
// that is its tensor. Part of reading a pickle.
#ifndef CKPT_CLIENT_CLI_TORCH_FILE_TORCH_CALLS_H_
#define CKPT_CLIENT_CLI_TORCH_FILE_TORCH_CALLS_H_

#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/cli/torch_file/pickle.h"

namespace ckpt::cli {

// Adds to `pickle`'s dicts, storages and tensors, never to its lists. Errors are INVALID_ARGUMENT.
class TorchCalls {
 public:
  explicit TorchCalls(Pickle& pickle) : pickle_(pickle) {}

  absl::StatusOr<PickleValue> Call(TorchGlobal function, const std::vector<PickleValue>& arguments);
  // `id` is ('storage', class, key, location, elements); the location counts for nothing.
  absl::StatusOr<PickleValue> LoadStorage(const PickleValue& id);

 private:
  absl::StatusOr<PickleValue> Rebuild(const std::vector<PickleValue>& arguments, size_t extra_min,
                                      DType dtype);
  absl::StatusOr<Extents> Numbers(const PickleValue& value) const;
  bool IsEmptyDict(const PickleValue& value) const;
  absl::Status CheckMetadata(const PickleValue& value) const;

  Pickle& pickle_;
  absl::flat_hash_map<absl::string_view, uint32_t> storage_by_key_;
};

}  // namespace ckpt::cli

#endif  // CKPT_CLIENT_CLI_TORCH_FILE_TORCH_CALLS_H_
