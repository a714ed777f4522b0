#include "client/torch/tensor_bytes.h"

#include <ATen/ops/empty.h>
#include <torch/version.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace ckpt {
namespace {

constexpr int kTorchVersion = TORCH_VERSION_MAJOR * 100 + TORCH_VERSION_MINOR;

struct Pair {
  c10::ScalarType type;
  DType dtype;
};
constexpr Pair kPairs[] = {
    {c10::ScalarType::Bool, v1::DTYPE_BOOL},
    {c10::ScalarType::Byte, v1::DTYPE_U8},
    {c10::ScalarType::Char, v1::DTYPE_I8},
    {c10::ScalarType::Short, v1::DTYPE_I16},
    {c10::ScalarType::Int, v1::DTYPE_I32},
    {c10::ScalarType::Long, v1::DTYPE_I64},
    {c10::ScalarType::Half, v1::DTYPE_F16},
    {c10::ScalarType::BFloat16, v1::DTYPE_BF16},
    {c10::ScalarType::Float, v1::DTYPE_F32},
    {c10::ScalarType::Double, v1::DTYPE_F64},
    {c10::ScalarType::ComplexFloat, v1::DTYPE_C64},
#if TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 1)
    {c10::ScalarType::Float8_e4m3fn, v1::DTYPE_F8_E4M3},
    {c10::ScalarType::Float8_e5m2, v1::DTYPE_F8_E5M2},
#endif
#if TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 3)
    {c10::ScalarType::UInt16, v1::DTYPE_U16},
    {c10::ScalarType::UInt32, v1::DTYPE_U32},
    {c10::ScalarType::UInt64, v1::DTYPE_U64},
#endif
};
static_assert(kTorchVersion >= 113, "LibTorch 1.13 is the oldest that is supported");

}  // namespace

absl::StatusOr<DType> DTypeOf(c10::ScalarType type) {
  for (const Pair& pair : kPairs) {
    if (pair.type == type) return pair.dtype;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("dtype ", c10::toString(type), " cannot be stored in a checkpoint"));
}

absl::StatusOr<c10::ScalarType> ScalarTypeOf(DType dtype) {
  for (const Pair& pair : kPairs) {
    if (pair.dtype == dtype) return pair.type;
  }
  const absl::string_view name = DTypeName(dtype);
  return absl::UnimplementedError(absl::StrCat("this LibTorch (", TORCH_VERSION_MAJOR, ".",
                                               TORCH_VERSION_MINOR, ") has no dtype ", name));
}

absl::Status CheckStorable(const at::Tensor& tensor) {
  if (!tensor.defined()) return absl::InvalidArgumentError("the tensor is undefined");
  if (tensor.device().is_cuda()) {
    return absl::UnimplementedError(
        "the tensor is in a GPU's memory, which this version cannot save or load: copy it to the "
        "host first");
  }
  if (!tensor.device().is_cpu()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the tensor is on device ", tensor.device().str(), ", not in host memory"));
  }
  if (tensor.layout() != c10::kStrided) {
    return absl::InvalidArgumentError("the tensor is not strided (sparse?)");
  }
  return DTypeOf(tensor.scalar_type()).status();
}

Extents ShapeOf(const at::Tensor& tensor) {
  return Extents(tensor.sizes().begin(), tensor.sizes().end());
}
Extents ToExtents(const std::vector<int64_t>& values) {
  return Extents(values.begin(), values.end());
}

namespace {

// A strided array with adjacent dimensions merged where memory allows; the last one is dense or of
// one element.
struct Strided {
  std::vector<uint64_t> extent;  // elements
  std::vector<int64_t> stride;   // bytes
  uint64_t run_bytes = 0;        // dense bytes at the innermost level
};

Strided Merge(const at::Tensor& tensor) {
  Strided result;
  const int64_t item = static_cast<int64_t>(tensor.element_size());
  result.run_bytes = static_cast<uint64_t>(item);
  bool dense = true;
  for (int64_t d = tensor.dim() - 1; d >= 0; --d) {
    const auto size = static_cast<uint64_t>(tensor.size(d));
    const int64_t stride = tensor.stride(d) * item;
    if (size == 1) continue;
    if (dense && stride == static_cast<int64_t>(result.run_bytes)) {
      result.run_bytes *= size;
      continue;
    }
    dense = false;
    result.extent.insert(result.extent.begin(), size);
    result.stride.insert(result.stride.begin(), stride);
  }
  return result;
}

template <size_t kBytes>
void CopyElements(const std::byte* from, int64_t stride, uint64_t count, std::byte* out) {
  for (; count > 0; --count, from += stride, out += kBytes) std::memcpy(out, from, kBytes);
}

// `count` runs that lie `stride` apart, to `out` one after another. The lengths that a transposed
// tensor has are constants: a memcpy of a length unknown to the compiler is a call for each.
void CopyRuns(const std::byte* from, int64_t stride, uint64_t run_bytes, uint64_t count,
              std::byte* out) {
  switch (run_bytes) {
    case 1:
      return CopyElements<1>(from, stride, count, out);
    case 2:
      return CopyElements<2>(from, stride, count, out);
    case 4:
      return CopyElements<4>(from, stride, count, out);
    case 8:
      return CopyElements<8>(from, stride, count, out);
    default:
      for (; count > 0; --count, from += stride, out += run_bytes) {
        std::memcpy(out, from, run_bytes);
      }
  }
}

}  // namespace

void CopyDenseBytes(const at::Tensor& tensor, uint64_t begin, uint64_t bytes, std::byte* out) {
  if (bytes == 0) return;
  const auto* base = static_cast<const std::byte*>(tensor.data_ptr());
  const Strided array = Merge(tensor);
  const size_t dims = array.extent.size();
  if (dims == 0) {
    std::memcpy(out, base + begin, bytes);
    return;
  }
  std::vector<uint64_t> index(dims);
  uint64_t run = begin / array.run_bytes;
  uint64_t within = begin % array.run_bytes;
  int64_t offset = 0;
  for (size_t d = dims; d-- > 0;) {
    index[d] = run % array.extent[d];
    run /= array.extent[d];
    offset += static_cast<int64_t>(index[d]) * array.stride[d];
  }
  for (const size_t last = dims - 1;;) {
    uint64_t count = 1;
    uint64_t take = std::min(bytes, array.run_bytes - within);
    if (take == array.run_bytes) {
      count = std::min(array.extent[last] - index[last], bytes / array.run_bytes);
      take = count * array.run_bytes;
      CopyRuns(base + offset, array.stride[last], array.run_bytes, count, out);
    } else {
      std::memcpy(out, base + offset + within, take);
    }
    out += take;
    bytes -= take;
    within = 0;
    if (bytes == 0) return;
    index[last] += count;
    offset += static_cast<int64_t>(count) * array.stride[last];
    for (size_t d = last; d > 0 && index[d] == array.extent[d]; --d) {
      offset += array.stride[d - 1] - static_cast<int64_t>(array.extent[d]) * array.stride[d];
      index[d] = 0;
      ++index[d - 1];
    }
  }
}

at::Tensor Resolved(const at::Tensor& tensor) {
  if (tensor.is_conj()) return Resolved(tensor.resolve_conj());
  if (tensor.is_neg()) return tensor.resolve_neg();
  return tensor;
}

at::Tensor NewTensor(c10::ScalarType type, const Extents& shape) {
  const std::vector<int64_t> sizes(shape.begin(), shape.end());
  return at::empty(sizes, at::TensorOptions().dtype(type).device(c10::kCPU));
}

}  // namespace ckpt
