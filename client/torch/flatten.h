// A converted state as the part that the core client saves. Step 2 of a save; step 1 is convert.h.
#ifndef CKPT_CLIENT_TORCH_FLATTEN_H_
#define CKPT_CLIENT_TORCH_FLATTEN_H_

#include "absl/status/statusor.h"
#include "client/state/part.h"
#include "client/torch/checkpointer.h"
#include "client/torch/state.h"

namespace ckpt {

// Leaves in the order of the state, with pointers at the tensors' bytes; tensors that share storage
// once, with aliases. The part keeps the tensors alive, and reads strided ones as they are.
// INVALID_ARGUMENT: unknown filter keys (all of them), tensors that can't be stored, text that is
// not UTF-8; UNIMPLEMENTED: a GPU's tensors.
absl::StatusOr<Part> MakePart(const StateDict& state, const TorchSaveOptions& options,
                              uint32_t rank, uint32_t world_size,
                              const std::vector<uint32_t>& share);

}  // namespace ckpt

#endif  // CKPT_CLIENT_TORCH_FLATTEN_H_
