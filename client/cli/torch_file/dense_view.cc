#include "client/cli/torch_file/dense_view.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/status_macros.h"

namespace ckpt::cli {
namespace {

bool IsContiguous(const TorchTensor& tensor) {
  uint64_t stride = 1;
  for (size_t d = tensor.shape.size(); d-- > 0;) {
    if (tensor.shape[d] == 1) continue;
    if (tensor.strides[d] != stride) return false;
    stride *= tensor.shape[d];
  }
  return true;
}

}  // namespace

DenseView::DenseView(std::shared_ptr<const InputFile> file, uint64_t storage_offset,
                     TorchTensor tensor)
    : file_(std::move(file)),
      storage_offset_(storage_offset),
      tensor_(std::move(tensor)),
      element_bytes_(DTypeBytes(tensor_.dtype)),
      bytes_(Volume(tensor_.shape).value_or(0) * element_bytes_),
      contiguous_(IsContiguous(tensor_)) {}

absl::Status DenseView::Read(uint64_t begin, uint64_t bytes, void* out) const {
  if (bytes == 0) return absl::OkStatus();
  if (contiguous_) {
    return file_->Read(storage_offset_ + tensor_.offset * element_bytes_ + begin, bytes, out);
  }
  CKPT_ASSIGN_OR_RETURN(const std::byte* mapped, file_->Map());
  const std::byte* storage = mapped + storage_offset_;
  auto* to = static_cast<std::byte*>(out);
  // A piece may begin and end within an element.
  const auto part = [&](uint64_t at, uint64_t count) {
    std::memcpy(to, storage + ElementOffset(at / element_bytes_) + at % element_bytes_, count);
    to += count;
  };
  const uint64_t end = begin + bytes;
  const uint64_t whole_begin =
      std::min(end, (begin + element_bytes_ - 1) / element_bytes_ * element_bytes_);
  const uint64_t whole_end = std::max(whole_begin, end / element_bytes_ * element_bytes_);
  if (whole_begin > begin) part(begin, whole_begin - begin);
  const uint64_t count = (whole_end - whole_begin) / element_bytes_;
  if (count > 0) {
    Gather(storage, whole_begin / element_bytes_, count, to);
    to += whole_end - whole_begin;
  }
  if (end > whole_end) part(whole_end, end - whole_end);
  return absl::OkStatus();
}

uint64_t DenseView::ElementOffset(uint64_t element) const {
  uint64_t offset = tensor_.offset;
  for (size_t d = tensor_.shape.size(); d-- > 0;) {
    offset += element % tensor_.shape[d] * tensor_.strides[d];
    element /= tensor_.shape[d];
  }
  return offset * element_bytes_;
}

void DenseView::Gather(const std::byte* storage, uint64_t element, uint64_t count,
                       std::byte* out) const {
  const uint64_t row = tensor_.shape.back();
  const uint64_t stride_bytes = tensor_.strides.back() * element_bytes_;
  while (count > 0) {
    const uint64_t run = std::min(count, row - element % row);
    const std::byte* from = storage + ElementOffset(element);
    if (stride_bytes == element_bytes_) {
      std::memcpy(out, from, run * element_bytes_);
    } else {
      for (uint64_t i = 0; i < run; ++i) {
        std::memcpy(out + i * element_bytes_, from + i * stride_bytes, element_bytes_);
      }
    }
    out += run * element_bytes_;
    element += run;
    count -= run;
  }
}

}  // namespace ckpt::cli
