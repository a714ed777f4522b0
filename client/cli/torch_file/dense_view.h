// A strided view of a storage in a file, read as if it were dense.
#ifndef CKPT_CLIENT_CLI_TORCH_FILE_DENSE_VIEW_H_
#define CKPT_CLIENT_CLI_TORCH_FILE_DENSE_VIEW_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "client/cli/input_file.h"
#include "client/cli/torch_file/pickle.h"

namespace ckpt::cli {

// Immutable and thread-safe.
class DenseView {
 public:
  // `storage_offset`: of the storage's first byte in `file`. The tensor lies within its storage,
  // and the storage within the file.
  DenseView(std::shared_ptr<const InputFile> file, uint64_t storage_offset, TorchTensor tensor);

  uint64_t bytes() const { return bytes_; }
  // Bytes [begin, begin + bytes) of the dense array, which has as many. Errors as InputFile's.
  absl::Status Read(uint64_t begin, uint64_t bytes, void* out) const;

 private:
  // Of the element, in the storage.
  uint64_t ElementOffset(uint64_t element) const;
  void Gather(const std::byte* storage, uint64_t element, uint64_t count, std::byte* out) const;

  std::shared_ptr<const InputFile> file_;
  uint64_t storage_offset_;
  TorchTensor tensor_;
  uint64_t element_bytes_;
  uint64_t bytes_;
  bool contiguous_;
};

}  // namespace ckpt::cli

#endif  // CKPT_CLIENT_CLI_TORCH_FILE_DENSE_VIEW_H_
