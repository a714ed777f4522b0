#include "client/torch/module_entries.h"

#include <torch/nn/module.h>

#include <algorithm>
#include <exception>

#include "absl/strings/str_cat.h"
#include "common/filter.h"

namespace ckpt {
namespace {

void Collect(const torch::nn::Module& module, const std::string& prefix, const ModuleState& state,
             std::vector<ModuleEntry>& entries) {
  for (const auto& parameter : module.named_parameters(/*recurse=*/false)) {
    if (!parameter.value().defined()) continue;
    entries.push_back({prefix + parameter.key(), parameter.value(), true});
  }
  for (const auto& buffer : module.named_buffers(/*recurse=*/false)) {
    if (!buffer.value().defined()) continue;
    std::string name = prefix + buffer.key();
    const auto& globs = state.non_persistent_buffers;
    if (std::any_of(globs.begin(), globs.end(),
                    [&](const std::string& glob) { return GlobMatches(glob, name); })) {
      continue;
    }
    entries.push_back({std::move(name), buffer.value(), false});
  }
  for (const auto& child : module.named_children()) {
    if (child.value()) Collect(*child.value(), prefix + child.key() + ".", state, entries);
  }
}

}  // namespace

absl::StatusOr<std::vector<ModuleEntry>> ModuleEntries(const ModuleState& module) {
  if (module.module == nullptr) return absl::InvalidArgumentError("the module is null");
  try {
    std::vector<ModuleEntry> entries;
    Collect(*module.module, "", module, entries);
    return entries;
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("LibTorch failed to list a module: ", error.what()));
  }
}

}  // namespace ckpt
