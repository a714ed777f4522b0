// What a module's state consists of, in the order of PyTorch's state_dict(): of each module its
// parameters, then its buffers, then its children.
#ifndef CKPT_CLIENT_TORCH_MODULE_ENTRIES_H_
#define CKPT_CLIENT_TORCH_MODULE_ENTRIES_H_

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/torch/state.h"

namespace ckpt {

struct ModuleEntry {
  std::string name;  // dotted: layers.0.weight
  at::Tensor tensor;
  bool is_parameter = false;
};

// Live tensors, tied ones under each of their names. Undefined parameters (bias=false) and
// non-persistent buffers are left out. INTERNAL where LibTorch throws.
absl::StatusOr<std::vector<ModuleEntry>> ModuleEntries(const ModuleState& module);

}  // namespace ckpt

#endif  // CKPT_CLIENT_TORCH_MODULE_ENTRIES_H_
