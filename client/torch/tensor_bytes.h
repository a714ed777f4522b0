// Tensors as bytes: which of LibTorch's dtypes are ours, and the dense row-major bytes of any
// strided tensor. The one place that decides which tensors can be stored.
#ifndef CKPT_CLIENT_TORCH_TENSOR_BYTES_H_
#define CKPT_CLIENT_TORCH_TENSOR_BYTES_H_

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/box.h"
#include "common/dtype.h"

namespace ckpt {

// INVALID_ARGUMENT: a dtype that checkpoints don't have (complex128, quantized).
absl::StatusOr<DType> DTypeOf(c10::ScalarType type);
// UNIMPLEMENTED: a dtype that this LibTorch doesn't have.
absl::StatusOr<c10::ScalarType> ScalarTypeOf(DType dtype);

// OK for defined, strided tensors in host memory with a dtype of ours. UNIMPLEMENTED for a GPU's,
// INVALID_ARGUMENT otherwise. The text doesn't name the tensor.
absl::Status CheckStorable(const at::Tensor& tensor);

Extents ShapeOf(const at::Tensor& tensor);
Extents ToExtents(const std::vector<int64_t>& values);  // values must not be negative

// Copies bytes [begin, begin + bytes) of the dense row-major array of `tensor`, which may have any
// strides, to `out`. Element boundaries need not be kept. Thread-safe for reading; no LibTorch
// operation runs.
void CopyDenseBytes(const at::Tensor& tensor, uint64_t begin, uint64_t bytes, std::byte* out);

// The tensor itself where its conjugate and negative bits are off, otherwise a materialized copy.
// May throw.
at::Tensor Resolved(const at::Tensor& tensor);

// Allocates. May throw.
at::Tensor NewTensor(c10::ScalarType type, const Extents& shape);

}  // namespace ckpt

#endif  // CKPT_CLIENT_TORCH_TENSOR_BYTES_H_
