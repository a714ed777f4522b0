#include "client/torch/optimizer_codec.h"

#include <torch/optim/adagrad.h>
#include <torch/optim/adam.h>
#include <torch/optim/adamw.h>
#include <torch/optim/rmsprop.h>
#include <torch/optim/sgd.h>

#include <sstream>
#include <tuple>
#include <type_traits>
#include <typeinfo>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

using torch::optim::Optimizer;
using torch::optim::OptimizerOptions;
using torch::optim::OptimizerParamState;

// Each optimizer below says: its types, ForEachOption in Python's order, ForEachTensor.
// `visit.Constant` is an option of Python's that LibTorch does not have: its value there is the
// only one that means the same. `visit.Later` is such a one that only later PyTorch knows: not
// written. `visit.Hint` is one that matters for speed alone.

struct AdamShape {
  using Class = torch::optim::Adam;
  using Options = torch::optim::AdamOptions;
  using State = torch::optim::AdamParamState;
  static constexpr const char* kName = "Adam";
  static constexpr bool kStepIsTensor = true;
  template <typename O, typename V>
  static void ForEachOption(O& options, V& visit) {
    visit.Option("lr", options.lr());
    visit.Option("betas", options.betas());
    visit.Option("eps", options.eps());
    visit.Option("weight_decay", options.weight_decay());
    visit.Option("amsgrad", options.amsgrad());
    visit.Constant("maximize", false);
    visit.Hint("foreach", nullptr);
    visit.Hint("capturable", false);
    visit.Hint("differentiable", false);
    visit.Hint("fused", false);
    visit.Later("decoupled_weight_decay", false);  // true: it is AdamW in all but its name
  }
  static std::vector<OptimizerTensorField> Tensors(State& state, const Options& options) {
    return {{"exp_avg", &state.exp_avg(), true},
            {"exp_avg_sq", &state.exp_avg_sq(), true},
            {"max_exp_avg_sq", &state.max_exp_avg_sq(), options.amsgrad()}};
  }
  static int64_t* Step(State& state) { return &state.step(); }
};

struct AdamWShape {
  using Class = torch::optim::AdamW;
  using Options = torch::optim::AdamWOptions;
  using State = torch::optim::AdamWParamState;
  static constexpr const char* kName = "AdamW";
  static constexpr bool kStepIsTensor = true;
  template <typename O, typename V>
  static void ForEachOption(O& options, V& visit) {
    visit.Option("lr", options.lr());
    visit.Option("betas", options.betas());
    visit.Option("eps", options.eps());
    visit.Option("weight_decay", options.weight_decay());
    visit.Option("amsgrad", options.amsgrad());
    visit.Hint("foreach", nullptr);
    visit.Constant("maximize", false);
    visit.Hint("capturable", false);
  }
  static std::vector<OptimizerTensorField> Tensors(State& state, const Options& options) {
    return {{"exp_avg", &state.exp_avg(), true},
            {"exp_avg_sq", &state.exp_avg_sq(), true},
            {"max_exp_avg_sq", &state.max_exp_avg_sq(), options.amsgrad()}};
  }
  static int64_t* Step(State& state) { return &state.step(); }
};

struct SgdShape {
  using Class = torch::optim::SGD;
  using Options = torch::optim::SGDOptions;
  using State = torch::optim::SGDParamState;
  static constexpr const char* kName = "SGD";
  static constexpr bool kStepIsTensor = false;
  template <typename O, typename V>
  static void ForEachOption(O& options, V& visit) {
    visit.Option("lr", options.lr());
    visit.Option("momentum", options.momentum());
    visit.Option("dampening", options.dampening());
    visit.Option("weight_decay", options.weight_decay());
    visit.Option("nesterov", options.nesterov());
    visit.Constant("maximize", false);
    visit.Hint("foreach", nullptr);
    visit.Hint("differentiable", false);
  }
  // A state without a buffer would be used as if it had one, so there is none then.
  static std::vector<OptimizerTensorField> Tensors(State& state, const Options&) {
    return {{"momentum_buffer", &state.momentum_buffer(), false}};
  }
  static int64_t* Step(State&) { return nullptr; }
};

struct RmspropShape {
  using Class = torch::optim::RMSprop;
  using Options = torch::optim::RMSpropOptions;
  using State = torch::optim::RMSpropParamState;
  static constexpr const char* kName = "RMSprop";
  static constexpr bool kStepIsTensor = false;
  template <typename O, typename V>
  static void ForEachOption(O& options, V& visit) {
    visit.Option("lr", options.lr());
    visit.Option("momentum", options.momentum());
    visit.Option("alpha", options.alpha());
    visit.Option("eps", options.eps());
    visit.Option("centered", options.centered());
    visit.Option("weight_decay", options.weight_decay());
    visit.Hint("foreach", nullptr);
    visit.Constant("maximize", false);
    visit.Hint("differentiable", false);
  }
  static std::vector<OptimizerTensorField> Tensors(State& state, const Options& options) {
    return {{"square_avg", &state.square_avg(), true},
            {"momentum_buffer", &state.momentum_buffer(), options.momentum() > 0},
            {"grad_avg", &state.grad_avg(), options.centered()}};
  }
  static int64_t* Step(State& state) { return &state.step(); }
};

struct AdagradShape {
  using Class = torch::optim::Adagrad;
  using Options = torch::optim::AdagradOptions;
  using State = torch::optim::AdagradParamState;
  static constexpr const char* kName = "Adagrad";
  static constexpr bool kStepIsTensor = true;
  template <typename O, typename V>
  static void ForEachOption(O& options, V& visit) {
    visit.Option("lr", options.lr());
    visit.Option("lr_decay", options.lr_decay());
    visit.Option("eps", options.eps());
    visit.Option("weight_decay", options.weight_decay());
    visit.Option("initial_accumulator_value", options.initial_accumulator_value());
    visit.Hint("foreach", nullptr);
    visit.Constant("maximize", false);
  }
  static std::vector<OptimizerTensorField> Tensors(State& state, const Options&) {
    return {{"sum", &state.sum(), true}};
  }
  static int64_t* Step(State& state) { return &state.step(); }
};

struct OptionWriter {
  StateDict out;
  void Option(const char* name, double value) { out[name] = value; }
  void Option(const char* name, bool value) { out[name] = value; }
  void Option(const char* name, const std::tuple<double, double>& value) {
    out[name] = StateList{std::get<0>(value), std::get<1>(value)};
  }
  void Constant(const char* name, bool value) { out[name] = value; }
  void Later(const char*, bool) {}
  void Hint(const char* name, StateValue value) { out[name] = std::move(value); }
};

struct OptionReader {
  const StateDict& group;
  std::vector<std::string>& missing;
  absl::Status status = absl::OkStatus();

  const StateValue* Find(const char* name) {
    const StateValue* value = group.Find(name);
    if (value == nullptr) missing.push_back(name);
    return value;
  }
  void Fail(const char* name, absl::string_view text) {
    if (status.ok()) status = absl::InvalidArgumentError(absl::StrCat(name, ": ", text));
  }
  void Option(const char* name, double& target) {
    const StateValue* value = Find(name);
    if (value == nullptr) return;
    if (const auto number = value->AsDouble(); number.ok()) {
      target = *number;
    } else {
      Fail(name, number.status().message());
    }
  }
  void Option(const char* name, bool& target) {
    const StateValue* value = Find(name);
    if (value == nullptr) return;
    if (const auto flag = value->AsBool(); flag.ok()) {
      target = *flag;
    } else {
      Fail(name, flag.status().message());
    }
  }
  void Option(const char* name, std::tuple<double, double>& target) {
    const StateValue* value = Find(name);
    if (value == nullptr) return;
    const StateList* list = value->If<StateList>();
    if (list == nullptr || list->size() != 2 || !(*list)[0].AsDouble().ok() ||
        !(*list)[1].AsDouble().ok()) {
      return Fail(name, "expected a list of two numbers");
    }
    target = {*(*list)[0].AsDouble(), *(*list)[1].AsDouble()};
  }
  void Constant(const char* name, bool wanted) {
    const StateValue* value = group.Find(name);
    const bool* flag = value == nullptr ? nullptr : value->If<bool>();
    if (flag != nullptr && *flag != wanted) {
      Fail(name, absl::StrCat("LibTorch's optimizer can only do ", wanted ? "true" : "false"));
    }
  }
  void Later(const char* name, bool wanted) { Constant(name, wanted); }
  void Hint(const char*, const StateValue&) {}
};

template <typename Shape>
class Codec final : public OptimizerCodec {
 public:
  const char* name() const override { return Shape::kName; }
  bool always_has_state() const override { return std::is_same_v<Shape, AdagradShape>; }
  bool step_is_tensor() const override { return Shape::kStepIsTensor; }
  int64_t* Step(OptimizerParamState& state) const override {
    return Shape::Step(static_cast<typename Shape::State&>(state));
  }
  std::vector<OptimizerTensorField> Tensors(OptimizerParamState& state,
                                            const OptimizerOptions& options) const override {
    return Shape::Tensors(static_cast<typename Shape::State&>(state),
                          static_cast<const typename Shape::Options&>(options));
  }
  std::unique_ptr<OptimizerParamState> NewState() const override {
    return std::make_unique<typename Shape::State>();
  }
  StateDict OptionsToState(const OptimizerOptions& options) const override {
    OptionWriter writer;
    Shape::ForEachOption(static_cast<const typename Shape::Options&>(options), writer);
    return std::move(writer.out);
  }
  absl::StatusOr<std::unique_ptr<OptimizerOptions>> OptionsFromState(
      const StateDict& group, const OptimizerOptions& options,
      std::vector<std::string>& missing) const override {
    auto result = std::make_unique<typename Shape::Options>(
        static_cast<const typename Shape::Options&>(options));
    OptionReader reader{group, missing};
    Shape::ForEachOption(*result, reader);
    CKPT_RETURN_IF_ERROR(reader.status);
    return std::unique_ptr<OptimizerOptions>(std::move(result));
  }
};

template <typename Shape>
bool Is(const Optimizer& optimizer) {
  return dynamic_cast<const typename Shape::Class*>(&optimizer) != nullptr;
}

template <typename Key>
Key KeyOf(const at::Tensor& parameter) {
  if constexpr (std::is_same_v<Key, std::string>) {
    std::ostringstream text;  // how LibTorch 1.x writes it
    text << static_cast<const void*>(parameter.unsafeGetTensorImpl());
    return text.str();
  } else {
    return static_cast<Key>(parameter.unsafeGetTensorImpl());
  }
}

using StateMap = std::remove_reference_t<decltype(std::declval<Optimizer&>().state())>;
using StateMapKey = std::remove_const_t<StateMap::key_type>;

}  // namespace

absl::StatusOr<const OptimizerCodec*> CodecOf(const Optimizer& optimizer) {
  static const Codec<AdamShape> adam;
  static const Codec<AdamWShape> adamw;
  static const Codec<SgdShape> sgd;
  static const Codec<RmspropShape> rmsprop;
  static const Codec<AdagradShape> adagrad;
  if (Is<AdamWShape>(optimizer)) return &adamw;
  if (Is<AdamShape>(optimizer)) return &adam;
  if (Is<SgdShape>(optimizer)) return &sgd;
  if (Is<RmspropShape>(optimizer)) return &rmsprop;
  if (Is<AdagradShape>(optimizer)) return &adagrad;
  return absl::UnimplementedError(
      absl::StrCat("optimizer class ", typeid(optimizer).name(),
                   " is not known here (SGD, Adam, AdamW, RMSprop, Adagrad are): give it as a "
                   "Stateful object"));
}

OptimizerParamState* FindParamState(Optimizer& optimizer, const at::Tensor& parameter) {
  const auto found = optimizer.state().find(KeyOf<StateMapKey>(parameter));
  return found == optimizer.state().end() ? nullptr : found->second.get();
}

void SetParamState(Optimizer& optimizer, const at::Tensor& parameter,
                   std::unique_ptr<OptimizerParamState> state) {
  auto& states = optimizer.state();
  if (state == nullptr) {
    states.erase(KeyOf<StateMapKey>(parameter));
  } else {
    states[KeyOf<StateMapKey>(parameter)] = std::move(state);
  }
}

}  // namespace ckpt
