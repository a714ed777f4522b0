// What of a state is not saved: the three filters of TorchSaveOptions, in the order in which they
// apply. Entry filters work on the converted state, one entry of one top-level key at a time; the
// selection and the pruning of optimizers work on the leaves that it is laid out as.
#ifndef CKPT_CLIENT_TORCH_SAVE_FILTER_H_
#define CKPT_CLIENT_TORCH_SAVE_FILTER_H_

#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "client/state/part.h"
#include "client/torch/checkpointer.h"
#include "client/torch/convert.h"
#include "client/torch/state.h"

namespace ckpt {

// INVALID_ARGUMENT: filter keys that are not in the state, all of them; what Converter says.
absl::StatusOr<StateDict> ConvertAndFilter(const StateDict& state, const TorchSaveOptions& options,
                                           Converter& converter);

// `bytes_of_leaf`: of part.leaves that are tensors; may end before them. INVALID_ARGUMENT as
// SelectLeaves.
absl::Status FilterLeaves(const TorchSaveOptions& options, const Converter& converter,
                          absl::Span<const std::optional<BytesIdentity>> bytes_of_leaf, Part& part);

}  // namespace ckpt

#endif  // CKPT_CLIENT_TORCH_SAVE_FILTER_H_
