#include "client/torch/save_filter.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/state/part_filter.h"
#include "common/key.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

absl::Status CheckFilterKeys(const StateDict& state, const TorchSaveOptions& options) {
  std::vector<std::string> unknown;
  for (const auto& [key, filter] : options.filters) {
    if (!state.contains(key)) unknown.push_back(absl::StrCat("\"", key, "\""));
  }
  if (unknown.empty()) return absl::OkStatus();
  std::vector<std::string> names;
  for (const StateEntry& entry : state) names.push_back(entry.key.ToString());
  return absl::InvalidArgumentError(
      absl::StrCat("filter keys that are not in the state: ", absl::StrJoin(unknown, ", "),
                   "; the state has ", names.empty() ? "no keys" : absl::StrJoin(names, ", ")));
}

std::string Parent(const std::string& printed) { return printed.substr(0, printed.rfind('.')); }

// An optimizer that lost its last entry is still one: its `state` is an empty dictionary.
struct EmptyState {
  size_t position = 0;  // of its first entry, among all leaves
  Key key;              // that entry's
  v1::Placement placement = v1::PLACEMENT_UNSPECIFIED;
};

PartLeaf EmptyStateLeaf(const EmptyState& state) {
  PartLeaf empty;
  v1::Key key = state.key.ToProto();
  key.mutable_segments()->RemoveLast();
  key.mutable_segments()->RemoveLast();
  empty.key = key;
  empty.kind = v1::LEAF_KIND_EMPTY_DICT;
  // Of a sharded optimizer other ranks may hold something: this emptiness is this rank's alone.
  empty.placement = state.placement == v1::PLACEMENT_SHARDED ? v1::PLACEMENT_PER_RANK
                                                             : state.placement;
  return empty;
}

void Insert(size_t position, PartLeaf leaf, Part& part) {
  part.leaves.insert(part.leaves.begin() + static_cast<ptrdiff_t>(position), std::move(leaf));
  for (PartLeaf& other : part.leaves) {
    const uint32_t alias = other.alias_of_plus_one;
    if (alias > position) other.alias_of_plus_one = alias + 1;
  }
}

// Clears `keep` for what optimizers have of parameters that are in the state and not kept. Returns
// the `state` dictionaries that this empties.
std::vector<EmptyState> PruneOptimizers(
    const Converter& converter, absl::Span<const std::optional<BytesIdentity>> bytes_of_leaf,
    const Part& part, std::vector<bool>& keep) {
  absl::flat_hash_set<BytesIdentity> kept;
  for (size_t i = 0; i < bytes_of_leaf.size(); ++i) {
    if (keep[i] && bytes_of_leaf[i]) kept.insert(*bytes_of_leaf[i]);
  }
  std::map<std::string, EmptyState> emptied;  // by the printed key of `state`
  absl::flat_hash_set<std::string> others;    // those with an entry that stays
  for (size_t i = 0; i < part.leaves.size(); ++i) {
    if (!keep[i]) continue;
    const std::string entry = Parent(PrintKey(part.leaves[i].key));
    const auto found = converter.optimizer_entries().find(entry);
    if (found == converter.optimizer_entries().end()) continue;
    const std::string state = Parent(entry);
    const BytesIdentity& parameter = found->second;
    if (!converter.tensors().contains(parameter) || kept.contains(parameter)) {
      others.insert(state);
      continue;
    }
    keep[i] = false;
    emptied.try_emplace(state, EmptyState{i, part.leaves[i].key, part.leaves[i].placement});
  }
  std::vector<EmptyState> result;
  for (auto& [state, empty] : emptied) {
    if (!others.contains(state)) result.push_back(std::move(empty));
  }
  return result;
}

}  // namespace

absl::StatusOr<StateDict> ConvertAndFilter(const StateDict& state, const TorchSaveOptions& options,
                                           Converter& converter) {
  CKPT_RETURN_IF_ERROR(CheckFilterKeys(state, options));
  StateDict result;
  for (const StateEntry& entry : state) {
    const std::string name = entry.key.ToString();
    CKPT_ASSIGN_OR_RETURN(StateValue value, converter.Convert(entry.value, name));
    const auto filter = entry.key.name() ? options.filters.find(name) : options.filters.end();
    StateDict* dict = value.If<StateDict>();
    if (filter == options.filters.end() || dict == nullptr) {
      result[entry.key] = std::move(value);
      continue;
    }
    StateDict kept;
    for (StateEntry& child : *dict) {
      if (filter->second(child.key.ToString(), child.value)) {
        kept[child.key] = std::move(child.value);
      }
    }
    if (kept.empty()) continue;
    StateValue filtered(std::move(kept));
    filtered.set_placement(value.placement());
    result[entry.key] = std::move(filtered);
  }
  return result;
}

absl::Status FilterLeaves(const TorchSaveOptions& options, const Converter& converter,
                          absl::Span<const std::optional<BytesIdentity>> bytes_of_leaf,
                          Part& part) {
  CKPT_ASSIGN_OR_RETURN(std::vector<bool> keep, SelectedLeaves(part, options.selection));
  std::vector<EmptyState> emptied;
  if (options.prune_optimizer) {
    emptied = PruneOptimizers(converter, bytes_of_leaf, part, keep);
  }
  CKPT_RETURN_IF_ERROR(KeepLeaves(keep, part));
  // Positions among what was kept, from the last to the first: an insertion moves what follows.
  std::sort(emptied.begin(), emptied.end(),
            [](const EmptyState& a, const EmptyState& b) { return a.position > b.position; });
  for (const EmptyState& state : emptied) {
    const auto before =
        std::count(keep.begin(), keep.begin() + static_cast<ptrdiff_t>(state.position), true);
    Insert(static_cast<size_t>(before), EmptyStateLeaf(state), part);
  }
  return absl::OkStatus();
}

}  // namespace ckpt
