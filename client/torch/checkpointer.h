// Saving and loading the state of a training loop, for LibTorch.
//
//   auto checkpointer = ckpt::Checkpointer::Connect({.run = "team/llm", .rank = rank,
//                                                    .world_size = world, .incarnation = launch});
//   ckpt::StateDict state{{"model", model}, {"optimizer", optimizer}, {"iteration", 0}};
//   auto loaded = (*checkpointer)->Load("latest", state);      // NOT_FOUND: a fresh start
//   ...
//   state["iteration"] = iteration;
//   auto save = (*checkpointer)->Save(iteration, state);       // returns at once
//   ...                                                        // forward, backward
//   save->AwaitStaged();                                       // before the tensors change
//   optimizer.step();
//
// Every rank makes one Checkpointer and calls Save with the same steps. One object is used by one
// thread at a time; the handles it returns are free. LibTorch's exceptions stop here and become
// INTERNAL or INVALID_ARGUMENT. Tensors of a GPU are UNIMPLEMENTED in this version.
#ifndef CKPT_CLIENT_TORCH_CHECKPOINTER_H_
#define CKPT_CLIENT_TORCH_CHECKPOINTER_H_

#include <concepts>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ckpt/v1/checkpoint.pb.h"
#include "ckpt/v1/restore.pb.h"
#include "client/client.h"
#include "client/save/save.h"
#include "client/torch/state.h"
#include "common/checkpoint_id.h"

namespace ckpt {

struct CheckpointerOptions {
  ClientOptions client;
  std::string run;
  uint32_t rank = 0;
  uint32_t world_size = 1;
  std::vector<uint32_t> share;  // the ranks that this node's daemon waits for; empty: all
  // The same on all ranks: client/torch/launch.h makes it. May be left out where world_size is 1,
  // or where nothing is saved.
  Incarnation incarnation;
};

// (key, value) of each entry of the converted value under one top-level key: names and tensors of a
// module, `state` and `param_groups` of an optimizer, entries of a dictionary. True: keep it.
using EntryFilter = std::function<bool(const std::string& key, const StateValue& value)>;

struct TorchSaveOptions {
  SaveOptions save;
  // By top-level key. A key all of whose entries are rejected is absent from the checkpoint; a
  // value that isn't a dictionary is kept whole.
  std::map<std::string, EntryFilter> filters;
  // Placement of what doesn't say: tensors of modules, everything in optimizers, all other leaves.
  v1::Placement module_placement = v1::PLACEMENT_REPLICATED;
  v1::Placement optimizer_placement = v1::PLACEMENT_REPLICATED;
  v1::Placement other_placement = v1::PLACEMENT_PER_RANK;
};

struct LoadOptions {
  // Every key that `state` asks for must be there, and the names in modules must match exactly.
  // False: what is missing keeps its value, what is unexpected is ignored; the report tells. What
  // an optimizer has for one parameter is loaded whole or keeps its value as a whole.
  bool strict = true;
  enum class Mismatch { kError, kSkip, kCast };
  // A tensor of another shape or dtype, when not strict (strict: always an error). kCast converts
  // the dtype; another shape is an error still.
  Mismatch mismatch = Mismatch::kError;
  // Whose PER_RANK values to take. Unset: this rank's own, which needs the same world size.
  std::optional<uint32_t> per_rank_source;
  // What becomes of what wasn't asked for: kept as StoredTensor (nothing is read), read, dropped.
  enum class Remainder { kLazy, kRead, kDrop };
  Remainder remainder = Remainder::kLazy;
  // All ranks of this launch get the same checkpoint from `latest`.
  bool agree_on_latest = true;
  RestoreOptions restore;
};

struct LoadReport {
  std::vector<std::string> restored;     // printed keys, in checkpoint order
  std::vector<std::string> missing;      // asked for, not in the checkpoint (not strict)
  std::vector<std::string> unexpected;   // in the checkpoint under a module, unknown to it
  std::vector<std::string> mismatched;   // "key: what it is and what was expected"
  std::vector<std::string> other_ranks;  // PER_RANK leaves that stayed out for want of a rule
  ReadStatistics bytes;
};

struct LoadResult {
  v1::CheckpointInfo checkpoint;
  LoadReport report;
  StateDict remainder;  // in checkpoint order
  uint64_t step() const { return checkpoint.id().step(); }
};

// Which checkpoint: a step, or "latest", "latest-valid", "1200" or a tag of the Checkpointer's run,
// or "RUN@..." of any run, or a selector (an empty run in it is the Checkpointer's).
class Which {
 public:
  template <std::integral T>
  Which(T step) : step_(static_cast<uint64_t>(step)) {}
  Which(const char* text) : text_(text) {}
  Which(std::string text) : text_(std::move(text)) {}
  Which(absl::string_view text) : text_(text) {}
  Which(v1::Selector selector) : selector_(std::move(selector)) {}
  absl::StatusOr<v1::Selector> ToSelector(const std::string& default_run) const;

 private:
  std::optional<uint64_t> step_;
  std::optional<std::string> text_;
  std::optional<v1::Selector> selector_;
};

class Checkpointer {
 public:
  // INVALID_ARGUMENT (run, rank, incarnation missing); otherwise as Client::Connect.
  static absl::StatusOr<std::unique_ptr<Checkpointer>> Connect(CheckpointerOptions options);
  ~Checkpointer();  // cancels saves that are not staged; what is staged is the daemon's

  // Makes the first save as fast as the tenth. Blocking.
  absl::Status Prepare(const StateDict& state, const TorchSaveOptions& options = {});

  // Starts saving and returns; the tensors must stay as they are until the handle's AwaitStaged has
  // returned, plain values are copied. Errors of the arguments come back at once
  // (INVALID_ARGUMENT: filter keys that are not in the state, names them all; two leaves that print
  // alike; tensors that can't be stored), all others on the handle, and on no later save.
  // Steps beyond the one this launch has loaded replace those of earlier launches.
  absl::StatusOr<SaveHandle> Save(uint64_t step, const StateDict& state,
                                  const TorchSaveOptions& options = {});

  // Restores into the modules, optimizers, tensors and Stateful objects of `state`, in place (same
  // tensors, same addresses); plain values in `state` are replaced. A null, an empty dictionary and
  // an empty list in `state` stand for whatever the checkpoint has there. Everything is checked
  // before anything is touched:
  //   NOT_FOUND         run or step unknown (says what exists); strict: requested keys that the
  //                     checkpoint lacks, all of them, with the nearest names that exist
  //   INVALID_ARGUMENT  shapes, dtypes, parameter names (all listed); PER_RANK values of another
  //                     world size without LoadOptions::per_rank_source
  //   DATA_LOSS         damaged bytes: tensors may have been touched then
  absl::StatusOr<LoadResult> Load(const Which& which, StateDict& state,
                                  const LoadOptions& options = {});
  // One bare module, optimizer, Stateful or dictionary, from the whole checkpoint or from what is
  // under `path` in it.
  absl::StatusOr<LoadResult> LoadObject(const Which& which, StateValue object,
                                        const std::vector<StateKey>& path = {},
                                        const LoadOptions& options = {});
  // The whole checkpoint as a dictionary with tensors of its own.
  absl::StatusOr<StateDict> Load(const Which& which, const LoadOptions& options = {});

  Client& client();
  const CheckpointerOptions& options() const;
  // The step that the last Load restored: what Save passes on as resumed_step.
  std::optional<uint64_t> resumed_step() const;

 private:
  class Impl;
  explicit Checkpointer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace ckpt

#endif  // CKPT_CLIENT_TORCH_CHECKPOINTER_H_
