// Saving and loading the state of a training loop, for LibTorch.
//
//   auto checkpointer = ckpt::Checkpointer::Connect({.run = "team/llm", .rank = rank,
//                                                    .world_size = world, .incarnation = launch});
//   ckpt::StateDict state{{"model", model}, {"optimizer", optimizer}, {"iteration", 0}};
//   auto resumed = (*checkpointer)->Resume(state);             // nullopt: a fresh start
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
// module, `state` and `param_groups` of an optimizer, entries of a dictionary. True: keep it. Where
// one is empty, or throws, nothing is saved: INTERNAL, with what it threw. Called once an entry, on
// the caller's thread, before Save returns.
using EntryFilter = std::function<bool(const std::string& key, const StateValue& value)>;

struct TorchSaveOptions {
  SaveOptions save;
  // What is left out: filters, then the selection, then the pruning. All ranks must say the same:
  // where their replicated leaves differ, the save is aborted on all of them, and the reason names
  // the ranks.
  //
  // By top-level key. A key all of whose entries are rejected is absent from the checkpoint; a
  // value that isn't a dictionary is kept whole.
  std::map<std::string, EntryFilter> filters;
  // Which leaves of what the filters left are saved, at any depth: globs and regexes on printed
  // keys, dtypes, sizes (of whole tensors, also where a rank holds a box), top-level entries,
  // ranks. Empty: all. A key of which nothing is left is absent. Of several names for one tensor
  // those that are selected share its bytes, whichever they are. No slices. INVALID_ARGUMENT: a bad
  // pattern; exact keys that are not in the state, all of them.
  v1::Selection selection;
  // What an optimizer keeps for a parameter is left out where the parameter is a tensor of the
  // state and none of its names is saved; `param_groups` stay whole. On load such an entry is like
  // that of a parameter which was never stepped. False: the optimizer is saved as it is.
  bool prune_optimizer = false;

  // Placement of what doesn't say: tensors of modules, everything in optimizers, all other leaves.
  v1::Placement module_placement = v1::PLACEMENT_REPLICATED;
  v1::Placement optimizer_placement = v1::PLACEMENT_REPLICATED;
  v1::Placement other_placement = v1::PLACEMENT_PER_RANK;
};

// How a name of the checkpoint becomes the one that the caller has for the same thing. A name is a
// key of one dictionary; a parameter's dotted name is one: "layers.0.weight".
//
//   options.renames = {Rename::StripPrefix("module.")};            // saved by DDP, loaded without
//   options.renames = {Rename::Prefix("encoder.", "backbone.")};
//   options.renames = {Rename::Regex("_orig_mod\\.", "")};         // wherever it stands
//   options.renames = {Rename::Regex("^net$", "model").In("")};    // a key of the state itself
struct Rename {
  static Rename StripPrefix(std::string prefix) { return {Kind::kPrefix, std::move(prefix), ""}; }
  static Rename AddPrefix(std::string prefix) { return {Kind::kPrefix, "", std::move(prefix)}; }
  static Rename Prefix(std::string from, std::string to) {
    return {Kind::kPrefix, std::move(from), std::move(to)};
  }
  // RE2 syntax; every match in the name is replaced, \\1 is what the first group matched.
  static Rename Regex(std::string pattern, std::string replacement) {
    return {Kind::kRegex, std::move(pattern), std::move(replacement)};
  }
  // In the one dictionary or module of the checkpoint with this printed key ("": the top level)
  // instead of in every module that is loaded.
  Rename In(std::string printed_key) const {
    Rename rule = *this;
    rule.dictionary = std::move(printed_key);
    return rule;
  }

  enum class Kind { kPrefix, kRegex };
  Kind kind;
  std::string from;
  std::string to;
  std::optional<std::string> dictionary;  // unset: every module that is loaded
};

// What becomes of leaves that don't match, for some of them.
//
//   options.policies = {{.glob = "model.head.**", .missing = LoadPolicy::Action::kSkip,
//                        .mismatched = LoadPolicy::Action::kSkip}};
struct LoadPolicy {
  enum class Action {
    kError,  // listed in the error with all others
    kSkip,   // the caller's value stays; what the checkpoint has is nowhere; the report tells
    kKeep,   // the same, but what the checkpoint has is in the remainder
    kCast,   // mismatched: another dtype is converted; another shape or kind is an error
  };
  // Which: by the key that errors and reports print, the caller's for what is missing, otherwise
  // the checkpoint's. Both must hold where both are set. A missing leaf has no dtype and no size.
  std::string glob;
  v1::LeafMatch match;
  // Unset: a later policy, or the default, decides.
  std::optional<Action> missing;     // asked for, not in the checkpoint
  std::optional<Action> unexpected;  // in the checkpoint under a module, unknown to it
  std::optional<Action> mismatched;  // another shape, dtype or kind
  // Its data file is lost, which the plan knows before a tensor is touched; never tolerated unless
  // a policy says so. A leaf that is not restored in place but made anew, in a dictionary that
  // replaces a placeholder, in what a Stateful object is given, in the raw dictionary, is null.
  // Not for blocks that turn out to be damaged when they are read.
  std::optional<Action> unreadable;
};

struct LoadReport;

struct LoadOptions {
  // Every key that `state` asks for must be there, and the names in modules must match exactly.
  // False: what is missing keeps its value, what is unexpected is ignored; the report tells. What
  // an optimizer has for one parameter is loaded whole or keeps its value as a whole.
  bool strict = true;
  enum class Mismatch { kError, kSkip, kCast };
  // A tensor of another shape or dtype, when not strict (strict: always an error). kCast converts
  // the dtype as at::Tensor::to does, so that what the other one cannot hold is lost (fractions,
  // imaginary parts, large numbers), and the report says which it did that to; another shape is an
  // error still.
  Mismatch mismatch = Mismatch::kError;
  // Exceptions from `strict` and `mismatch`, strict or not: of those that match a leaf the first
  // that says something about the case decides.
  std::vector<LoadPolicy> policies;
  // Applied where names of the caller are looked up, one after another, each to what the one before
  // made of the name. Two names that become one are an error that tells both. Reports, errors,
  // paths and the remainder go on using the checkpoint's own names. Not for the raw dictionary.
  std::vector<Rename> renames;
  // Whose PER_RANK values to take. Unset: this rank's own, which needs the same world size.
  // kOwnRankWrapped: on any number of ranks, those of saved rank (this rank mod saved world size).
  static constexpr uint32_t kOwnRankWrapped = UINT32_MAX;
  std::optional<uint32_t> per_rank_source;
  // What becomes of what wasn't asked for: kept as StoredTensor (nothing is read), read, dropped.
  // What remains is told by listing all of the checkpoint: a load of a small part of a huge one
  // drops it.
  enum class Remainder { kLazy, kRead, kDrop };
  Remainder remainder = Remainder::kLazy;
  // All ranks of this launch get the same checkpoint from `latest`.
  bool agree_on_latest = true;
  // A tensor that one of `restore.selection.slices` names is that box of it, in the box's shape:
  // where it is made anew, as a StoredTensor, and where the caller's tensor has that shape. Several
  // slices of one tensor are INVALID_ARGUMENT there. A target that wants more of the tensor than
  // its one slice is a mismatch.
  RestoreOptions restore;
  // If set, the report is put there too, also by a load that fails. Not by the raw one.
  LoadReport* report = nullptr;
};

struct LoadReport {
  std::vector<std::string> restored;     // printed keys, in checkpoint order
  std::vector<std::string> missing;      // asked for, not in the checkpoint
  std::vector<std::string> unexpected;   // in the checkpoint under a module, unknown to it
  std::vector<std::string> mismatched;   // "key: what it is and what was expected"
  std::vector<std::string> cast;         // "key: I64 to I32", of what is to be restored so
  std::vector<std::string> unreadable;   // "key: why", of what a policy tolerates
  std::vector<std::string> other_ranks;  // PER_RANK leaves that stayed out for want of a rule
  std::vector<std::string> damaged;      // only of a load that failed for it: see DATA_LOSS at Load
  ReadStatistics bytes;
  v1::PlanSummary planned;  // what of the checkpoint the daemon planned to find this out
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
  // INVALID_ARGUMENT: a text that is none of these; says what was expected. Whether there is such a
  // checkpoint, only the daemon knows.
  absl::StatusOr<v1::Selector> ToSelector(const std::string& default_run) const;

 private:
  std::optional<uint64_t> step_;
  std::optional<std::string> text_;
  std::optional<v1::Selector> selector_;
};

class Checkpointer {
 public:
  // INVALID_ARGUMENT (run, rank); otherwise as Client::Connect, and so is the cost.
  static absl::StatusOr<std::unique_ptr<Checkpointer>> Connect(CheckpointerOptions options);
  ~Checkpointer();  // cancels saves that are not staged; what is staged is the daemon's

  // Makes the first save as fast as the tenth. Blocking. Errors of the arguments as Save's
  // (INVALID_ARGUMENT, UNIMPLEMENTED), then as Client::Prepare: RESOURCE_EXHAUSTED, UNAVAILABLE,
  // UNAUTHENTICATED; Stateful objects are asked for their state, and what they say comes back. Cost
  // as Client::Prepare: one call, the layout, and the kernel clears pages for two parts; no tensor
  // is read.
  absl::Status Prepare(const StateDict& state, const TorchSaveOptions& options = {});

  // Starts saving and returns; the tensors must stay as they are until the handle's AwaitStaged has
  // returned, plain values are copied. Errors of the arguments come back at once
  // (INVALID_ARGUMENT: no incarnation; filter keys that are not in the state, names them all; two
  // leaves that print alike; tensors that can't be stored), all others on the handle, and on no
  // later save.
  // Steps beyond the one this launch has loaded replace those of earlier launches.
  // Cost as Client::Save; a strided tensor is gathered as it is copied, nothing is made contiguous
  // before.
  absl::StatusOr<SaveHandle> Save(uint64_t step, const StateDict& state,
                                  const TorchSaveOptions& options = {});

  // Restores into the modules, optimizers, tensors and Stateful objects of `state`, in place (same
  // tensors, same addresses); plain values in `state` are replaced. Where two keys ask for the same
  // memory, it has what the later one says, and `restored` names both. A null, an empty dictionary
  // and an empty list in `state` stand for whatever the checkpoint has there. Everything is checked
  // before anything is touched, and all complaints are in one error:
  //   NOT_FOUND            run or step unknown (says what exists); requested keys that the
  //                        checkpoint lacks, all of them, the first 20 with the nearest names that
  //                        exist: so it is no sign of a fresh start, see Resume. Of exact keys in
  //                        `restore.selection` that it lacks, the first ten
  //   INVALID_ARGUMENT     options; shapes, dtypes, parameter names (all listed); dtypes that this
  //                        LibTorch lacks; PER_RANK values of another world size without
  //                        LoadOptions::per_rank_source
  //   FAILED_PRECONDITION  nothing else is wrong, but the stored boxes do not cover what was asked
  //                        (some ranks' parts are elsewhere); `latest` of a run of which this node
  //                        has nothing but such shares
  //
  //   DATA_LOSS            a file of the checkpoint is missing that holds something of what was
  //                        asked for, and no policy tolerates it as `unreadable`: nothing has been
  //                        touched, and the error lists what is lost beside all else that is
  //                        wrong, the report as `damaged`. Or a stored
  //                        block does not match its hash, or cannot be read: known only once it is
  //                        read, so tensors have been touched then. All that was asked for is gone
  //                        through, and the error names every damaged tensor (20 of them;
  //                        LoadOptions::report all). The report says what is now
  //                          restored   it has the checkpoint's bytes now
  //                          damaged    not whole in the checkpoint; what would be read in place
  //                                     now has blocks of the checkpoint among its own
  //                          neither    untouched: what is read beside its place (strided, cast and
  //                                     overlapping tensors, state that an optimizer did not have
  //                                     yet) and all that isn't a tensor, hyperparameters and plain
  //                                     values included
  //   UNAVAILABLE          the daemon went away while it was streaming the bytes (to another node):
  //                        any tensor may have been touched. NOT_FOUND where it is back, and has
  //                        forgotten the plan
  //
  // Tensors are read in place because a second copy of a model does not fit into memory, and a pass
  // over the disk that only verifies would double the time of every restart. So a caller does one
  // of two things after DATA_LOSS: loads another checkpoint over all of it (`latest-valid` is one
  // whose every block was verified before it was chosen), or loads this one again without the
  // damaged keys: excluded in `restore.selection`, and skipped as missing by a policy. A caller
  // that must not see a touched tensor loads `latest-valid` in the first place.
  // Two errors more come after the tensors, and leave them restored: what a Stateful object says
  // against its state, and INTERNAL where LibTorch throws while it copies. An optimizer's steps are
  // no exception: they are read before anything else, and one that is no number of steps is among
  // the mismatches.
  //
  // Cost: a plan (names, places and the hash of each block, no bytes), then the bytes that `state`
  // asks for, each block of them read and hashed once, optimizers' steps before the rest. On one
  // node, what all ranks want is read from disk once. The plan is of
  //   all that `restore.selection` takes   where the remainder is kept, lazy or read: the daemon
  //                                        lists it, and keeps its files while it lives
  //   what `state` asks for                with Remainder::kDrop and a selection that includes
  //                                        nothing by itself. Modules, optimizers, lists, Stateful
  //                                        objects, placeholders and dictionaries that a rename is
  //                                        In() count with all that the checkpoint has in their
  //                                        place. More than 256 of them, or more keys than fit into
  //                                        2 MiB: all below the entries of `state`; more than 256
  //                                        of those as everything
  //   both, one after the other            then, where a key of a dictionary is missing
  absl::StatusOr<LoadResult> Load(const Which& which, StateDict& state,
                                  const LoadOptions& options = {});
  // Load("latest"), for the start of a launch. nullopt, and nothing touched: the run has no
  // committed checkpoint. NOT_FOUND: keys that the newest one lacks. Cost as Load's, and a second
  // call after NOT_FOUND.
  absl::StatusOr<std::optional<LoadResult>> Resume(StateDict& state,
                                                   const LoadOptions& options = {});
  // One bare module, optimizer, Stateful or dictionary, from the whole checkpoint or from what is
  // under `path` in it. With a path the remainder, too, is of what is under it, and so is the cost:
  // as Load's, of a plan of that, or of all where the path is not there. What an imported
  // safetensors file says of itself (`__metadata__`) is no parameter: it is in the remainder.
  // Errors as Load's; INVALID_ARGUMENT also where `object` is a plain value, which cannot be
  // restored in place; NOT_FOUND also for the path, with the names nearest to the first of its keys
  // that is not there.
  absl::StatusOr<LoadResult> LoadObject(const Which& which, StateValue object,
                                        const std::vector<StateKey>& path = {},
                                        const LoadOptions& options = {});
  // The whole checkpoint, or what `restore.selection` takes of it, as a dictionary with tensors of
  // its own; all of it is read, each block once. Errors as PlanRestore's; INVALID_ARGUMENT:
  // options, PER_RANK values of another world size without LoadOptions::per_rank_source, a dtype
  // that this LibTorch lacks, several slices of one tensor; FAILED_PRECONDITION: stored boxes that
  // do not cover their tensor; DATA_LOSS as Load's, for what no policy tolerates; otherwise as
  // RestorePlan::Read.
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
