// How much of a checkpoint a load has to be told of, so that one module out of a huge checkpoint
// costs that module.
#ifndef CKPT_CLIENT_TORCH_LOAD_SELECTION_H_
#define CKPT_CLIENT_TORCH_LOAD_SELECTION_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "ckpt/v1/restore.pb.h"
#include "client/torch/checkpointer.h"
#include "client/torch/state.h"

namespace ckpt {

struct LoadSelection {
  v1::Selection selection;
  // Printed keys of the dictionaries ("": the top) of which only what the caller has is selected. A
  // key that is not found there may be there as something else, and has neighbours with names near
  // to it: that takes a plan of everything.
  absl::flat_hash_set<std::string> partial;
};

// What a load of `value` from under `path` looks at. Modules, optimizers, lists, Stateful objects
// and placeholders look at all that the checkpoint has in their place, dictionaries only at what
// the caller has in them, unless they are renamed; where that is more than one request can name, at
// all below `path`, or below each entry of the caller's top level. Nothing: at everything that
// `options.restore.selection` takes, because that says itself what is wanted, or the remainder is
// wanted, or those entries are too many as well.
std::optional<LoadSelection> SelectionOfLoad(const StateValue& value,
                                             const std::vector<StateKey>& path,
                                             const LoadOptions& options);

}  // namespace ckpt

#endif  // CKPT_CLIENT_TORCH_LOAD_SELECTION_H_
