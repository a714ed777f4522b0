// A box of a tensor as people write it: model.embedding[0:100,:].
#ifndef CKPT_CLIENT_CLI_TENSOR_SLICE_H_
#define CKPT_CLIENT_CLI_TENSOR_SLICE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/box.h"

namespace ckpt::cli {

// One dimension: [begin, end), each open, or negative and then counted from the end, as in Python.
struct SliceRange {
  std::optional<int64_t> begin;
  std::optional<int64_t> end;
};

struct TensorSlice {
  std::string key;
  std::vector<SliceRange> ranges;  // of the first dimensions; further ones are whole
};

// KEY[RANGE,...]; a range is BEGIN:END, either of them left out, or one index, which means
// INDEX:INDEX+1: dimensions are never dropped. INVALID_ARGUMENT quotes the text.
absl::StatusOr<TensorSlice> ParseTensorSlice(absl::string_view text);
// All of them. INVALID_ARGUMENT quotes every text that is none or whose key was cut already.
absl::StatusOr<std::vector<TensorSlice>> ParseTensorSlices(absl::Span<const std::string> texts);

// INVALID_ARGUMENT: more ranges than dimensions, or one that is empty or leaves the tensor. Python
// would cut it to fit; here what was asked for is there, or it is an error.
absl::StatusOr<Box> BoxOf(const TensorSlice& slice, absl::Span<const uint64_t> shape);

}  // namespace ckpt::cli

#endif  // CKPT_CLIENT_CLI_TENSOR_SLICE_H_
