// The caller's view of a checkpoint: an ordered dictionary whose values are modules, optimizers,
// objects with a state of their own, tensors, plain values, and dictionaries and lists of these.
//
//   ckpt::StateDict state{{"model", model}, {"optimizer", optimizer}, {"iteration", 0}};
//   state["rng"] = ckpt::PerRank(generator_state);
//
// A StateDict refers to modules, optimizers and Stateful objects, it does not own them (a
// std::shared_ptr<torch::nn::Module> is kept alive); tensors are handles, as everywhere in
// LibTorch. Copying a StateDict copies handles, no bytes. Not thread-safe.
//
// This header costs ATen/core/Tensor.h, not torch/torch.h.
#ifndef CKPT_CLIENT_TORCH_STATE_H_
#define CKPT_CLIENT_TORCH_STATE_H_

#include <ATen/core/Tensor.h>

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "ckpt/v1/checkpoint.pb.h"

namespace torch::nn {
class Module;
}  // namespace torch::nn
namespace torch::optim {
class Optimizer;
}  // namespace torch::optim

namespace ckpt {

class StateDict;
class StateList;
class StateValue;
struct StateEntry;

// A key of a dictionary: a string, or an integer (an optimizer's `state` is keyed by parameter
// index). A string with dots is one key, as in PyTorch: "layers.0.weight".
class StateKey {
 public:
  StateKey(std::string name) : value_(std::move(name)) {}
  StateKey(const char* name) : value_(std::string(name)) {}
  StateKey(absl::string_view name) : value_(std::string(name)) {}
  template <std::integral T>
  StateKey(T number) : value_(static_cast<int64_t>(number)) {}
  const std::string* name() const { return std::get_if<std::string>(&value_); }
  const int64_t* number() const { return std::get_if<int64_t>(&value_); }
  std::string ToString() const { return name() ? *name() : std::to_string(*number()); }
  friend bool operator==(const StateKey&, const StateKey&) = default;
  friend auto operator<=>(const StateKey&, const StateKey&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const StateKey& key) {
    return key.name() ? H::combine(std::move(h), *key.name())
                      : H::combine(std::move(h), *key.number());
  }

 private:
  std::variant<std::string, int64_t> value_;
};

// Keeps the order of insertion; keys are unique, and must not be changed through an iterator.
class StateDict {
 public:
  StateDict();
  StateDict(std::initializer_list<StateEntry> entries);
  StateDict(const StateDict&);
  StateDict(StateDict&&) noexcept;
  StateDict& operator=(const StateDict&);
  StateDict& operator=(StateDict&&) noexcept;
  ~StateDict();

  StateValue& operator[](const StateKey& key);  // inserts null at the end where there is none
  StateValue* Find(const StateKey& key);        // nullptr where there is none
  const StateValue* Find(const StateKey& key) const;
  bool contains(const StateKey& key) const { return Find(key) != nullptr; }
  bool Erase(const StateKey& key);  // linear
  size_t size() const;
  bool empty() const { return size() == 0; }
  std::vector<StateEntry>::iterator begin();
  std::vector<StateEntry>::iterator end();
  std::vector<StateEntry>::const_iterator begin() const;
  std::vector<StateEntry>::const_iterator end() const;

 private:
  size_t Position(const StateKey& key) const;  // size() where there is none
  std::vector<StateEntry> entries_;
  // Positions by key, kept once there are many entries.
  absl::flat_hash_map<StateKey, size_t> index_;
};

class StateList {
 public:
  StateList();
  StateList(std::initializer_list<StateValue> values);
  StateList(const StateList&);
  StateList(StateList&&) noexcept;
  StateList& operator=(const StateList&);
  StateList& operator=(StateList&&) noexcept;
  ~StateList();

  void Add(StateValue value);
  StateValue& operator[](size_t index);
  const StateValue& operator[](size_t index) const;
  size_t size() const;
  bool empty() const { return size() == 0; }
  std::vector<StateValue>::iterator begin();
  std::vector<StateValue>::iterator end();
  std::vector<StateValue>::const_iterator begin() const;
  std::vector<StateValue>::const_iterator end() const;

 private:
  std::vector<StateValue> values_;
};

struct Null {
  friend bool operator==(Null, Null) { return true; }
};
// A byte string, kept apart from text (which must be UTF-8).
struct Bytes {
  std::string data;
  friend bool operator==(const Bytes&, const Bytes&) = default;
};

// One rank's box of a tensor that is larger than what it holds. The box is
// [offset[d], offset[d] + local.size(d)) in each dimension d of `global_shape`; an empty `local`
// (some size zero) is a rank that holds nothing. Where `replica_count` ranks hold this same box,
// this is number `replica_index` of them and they split the writing.
struct Sharded {
  at::Tensor local;
  std::vector<int64_t> global_shape;
  std::vector<int64_t> offset;
  uint32_t replica_index = 0;
  uint32_t replica_count = 1;
};

// A module whose buffers are not all part of its state (LibTorch has no flag for that): globs over
// the dotted names of buffers that are neither saved nor expected.
struct ModuleState {
  ModuleState(std::shared_ptr<torch::nn::Module> owned, std::vector<std::string> globs = {})
      : module(owned.get()), owner(std::move(owned)), non_persistent_buffers(std::move(globs)) {}
  ModuleState(torch::nn::Module& borrowed, std::vector<std::string> globs = {})
      : module(&borrowed), non_persistent_buffers(std::move(globs)) {}
  torch::nn::Module* module;
  std::shared_ptr<torch::nn::Module> owner;  // may be null
  std::vector<std::string> non_persistent_buffers;
};

// One rank's part of an optimizer whose state is sharded over the ranks (ZeRO, FSDP): `optimizer`
// steps local boxes of the parameters. It is saved in PyTorch's layout of the whole optimizer,
// state.<index>.exp_avg and so on as SHARDED boxes of the whole parameter's shape, so that any
// number of ranks, or one unsharded optimizer, can load it.
struct ShardedOptimizer {
  struct Parameter {
    int64_t index = 0;                  // in the whole optimizer
    std::vector<int64_t> global_shape;  // of the whole parameter
    std::vector<int64_t> offset;        // of the local tensor in it, as in Sharded
    uint32_t replica_index = 0;
    uint32_t replica_count = 1;
  };
  torch::optim::Optimizer* optimizer = nullptr;
  // One for each parameter of `optimizer`, in the order of its groups.
  std::vector<Parameter> parameters;
  // For each group of `optimizer`: the indices of all its parameters in the whole optimizer, held
  // by this rank or not. Equal on all ranks.
  std::vector<std::vector<int64_t>> groups;
};

// An object with the state-dict protocol: a scheduler, a data loader, a metric. On save its
// SaveState() is stored; on load it is given what the checkpoint has under its key.
class Stateful {
 public:
  virtual ~Stateful() = default;
  virtual absl::StatusOr<StateDict> SaveState() = 0;
  // Tensors in `state` are fresh, they may be kept; what was saved as Sharded comes back whole.
  virtual absl::Status LoadState(const StateDict& state) = 0;
};

namespace internal {
class StoredTensorSource;  // client/torch/load: where a remainder's bytes come from
}  // namespace internal

// A tensor of a checkpoint that nobody has read yet (in a remainder). While it lives, the daemon
// keeps the file it lies in. Where the load's selection has a slice of it, it is that box alone.
class StoredTensor {
 public:
  StoredTensor(std::shared_ptr<internal::StoredTensorSource> source, uint32_t leaf_number);
  // Reads and verifies: errors as RestorePlan::Read. INVALID_ARGUMENT also: the selection has
  // several slices of it. UNIMPLEMENTED: a dtype that this LibTorch lacks. Cost, of each call: a
  // tensor is allocated, and the blocks that it touches are read and hashed once.
  absl::StatusOr<at::Tensor> Read() const;
  v1::DType dtype() const;
  std::vector<int64_t> shape() const;  // of the box

 private:
  std::shared_ptr<internal::StoredTensorSource> source_;
  uint32_t leaf_number_;
};

template <typename T>
concept ModuleHolderLike = requires(T holder) {
  { holder.ptr() } -> std::convertible_to<std::shared_ptr<torch::nn::Module>>;
};

class StateValue {
 public:
  using Variant = std::variant<Null, bool, int64_t, double, std::string, Bytes, at::Tensor, Sharded,
                               ModuleState, torch::optim::Optimizer*, ShardedOptimizer, Stateful*,
                               StoredTensor, StateDict, StateList>;

  StateValue() = default;  // null
  StateValue(std::nullptr_t) {}
  StateValue(Null) {}
  template <std::same_as<bool> T>
  StateValue(T value) : value_(value) {}
  // No 64-bit unsigned integers: a value is an int64, so the caller says how it becomes one.
  template <std::integral T>
  requires(!std::same_as<T, bool> && (std::signed_integral<T> || sizeof(T) < sizeof(int64_t)))
      StateValue(T value)
      : value_(static_cast<int64_t>(value)) {}
  template <std::floating_point T>
  StateValue(T value) : value_(static_cast<double>(value)) {}
  StateValue(const char* text) : value_(std::string(text)) {}
  StateValue(std::string text) : value_(std::move(text)) {}
  StateValue(absl::string_view text) : value_(std::string(text)) {}
  StateValue(Bytes bytes) : value_(std::move(bytes)) {}
  StateValue(at::Tensor tensor) : value_(std::move(tensor)) {}
  StateValue(Sharded sharded) : value_(std::move(sharded)) {}
  StateValue(ModuleState module) : value_(std::move(module)) {}
  StateValue(torch::nn::Module& module) : value_(ModuleState(module)) {}
  template <typename M>
  requires std::derived_from<M, torch::nn::Module> StateValue(std::shared_ptr<M> module)
      : value_(ModuleState(std::shared_ptr<torch::nn::Module>(std::move(module)))) {}
  template <ModuleHolderLike H>  // Linear, Sequential and every other TORCH_MODULE
  StateValue(const H& holder)
      : value_(ModuleState(std::shared_ptr<torch::nn::Module>(holder.ptr()))) {}
  StateValue(torch::optim::Optimizer& optimizer) : value_(&optimizer) {}
  StateValue(ShardedOptimizer optimizer) : value_(std::move(optimizer)) {}
  StateValue(Stateful& object) : value_(&object) {}
  StateValue(Stateful* object) : value_(object) {}
  StateValue(StoredTensor stored) : value_(std::move(stored)) {}
  StateValue(StateDict dict) : value_(std::move(dict)) {}
  StateValue(StateList list) : value_(std::move(list)) {}

  // nullptr unless it is a T: one of the alternatives of Variant.
  template <typename T>
  T* If() {
    return std::get_if<T>(&value_);
  }
  template <typename T>
  const T* If() const {
    return std::get_if<T>(&value_);
  }
  bool is_null() const { return If<Null>() != nullptr; }
  // null, bool, integer, double, text, bytes.
  bool is_plain() const { return value_.index() <= 5; }
  // For messages: "an integer", "a module".
  absl::string_view KindName() const;

  // INVALID_ARGUMENT says what it is instead.
  absl::StatusOr<bool> AsBool() const;
  absl::StatusOr<int64_t> AsInt() const;
  absl::StatusOr<double> AsDouble() const;  // integers too
  absl::StatusOr<std::string> AsString() const;
  // Reads a StoredTensor: errors and cost as its Read.
  absl::StatusOr<at::Tensor> AsTensor() const;

  // Set by PerRank and Replicated; PLACEMENT_UNSPECIFIED: the default of its kind. Holds for
  // everything inside that doesn't say otherwise.
  v1::Placement placement() const { return placement_; }
  void set_placement(v1::Placement placement) { placement_ = placement; }

 private:
  Variant value_;
  v1::Placement placement_ = v1::PLACEMENT_UNSPECIFIED;
};

struct StateEntry {
  StateKey key;
  StateValue value;
};

// Each rank has its own (random state, data loader position): the default of plain values and of
// tensors outside of modules and optimizers.
StateValue PerRank(StateValue value);
// Equal on all ranks, stored once: the default of modules and optimizers.
StateValue Replicated(StateValue value);

// A module, optimizer, Stateful or dictionary as the dictionary that a checkpoint has of it, with
// nested ones converted too: a module's parameters and persistent buffers by dotted name, an
// optimizer's `state` and `param_groups` as PyTorch's Python state_dict() lays them out. Tensors
// are the live ones. INVALID_ARGUMENT: not something with a state; UNIMPLEMENTED: an optimizer
// other than SGD, Adam, AdamW, RMSprop, Adagrad; what a Stateful object says. Cost: O(entries),
// with a new tensor of one number for each parameter that an optimizer has a step of; no tensor's
// bytes are copied, but a StoredTensor is read.
absl::StatusOr<StateDict> ToStateDict(const StateValue& value);

}  // namespace ckpt

#endif  // CKPT_CLIENT_TORCH_STATE_H_
