// A training goes on in the other language: each class of optimizer, with groups of different
// options, from torch.save of PyTorch's Python into LibTorch, and from LibTorch through what
// ckptctl exports into PyTorch's Python. Debian's Python calls the same LibTorch, whose kernels
// give the same bits for the same sizes: both sides end with equal bits.
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "tests/torch/python_test.h"
#include "tests/torch/torch_test.h"

namespace ckpt::testing {
namespace {

using Parameters = std::vector<at::Tensor>;
using OptimizerPtr = std::unique_ptr<torch::optim::Optimizer>;

constexpr int kSteps = 3;  // before the save, and again after it; so in python_training.py

// A group for each layer of SmallModel.
template <typename Class, typename Options>
OptimizerPtr Make(const Parameters& parameters, const std::vector<Options>& options) {
  std::vector<torch::optim::OptimizerParamGroup> groups;
  for (size_t i = 0; i < options.size(); ++i) {
    groups.emplace_back(Parameters{parameters[2 * i], parameters[2 * i + 1]},
                        std::make_unique<Options>(options[i]));
  }
  return std::make_unique<Class>(std::move(groups), options[0]);
}

template <typename Class, typename Options>
OptimizerPtr MakeOfDefaults(const Parameters& parameters) {
  return Make<Class, Options>(parameters, {Options(0.5), Options(0.5), Options(0.5)});
}

struct OptimizerClass {
  const char* name;  // in Python too
  OptimizerPtr (*make)(const Parameters& parameters);  // the options of python_training.py
  OptimizerPtr (*make_of_defaults)(const Parameters& parameters);
};

void PrintTo(const OptimizerClass& optimizer, std::ostream* out) { *out << optimizer.name; }

const OptimizerClass kClasses[] = {
    {"SGD",
     [](const Parameters& parameters) {
       using Options = torch::optim::SGDOptions;
       return Make<torch::optim::SGD, Options>(
           parameters, {Options(0.125).momentum(0.75).dampening(0.25).weight_decay(0.01),
                        Options(0.25).momentum(0.5).nesterov(true), Options(0.0625)});
     },
     &MakeOfDefaults<torch::optim::SGD, torch::optim::SGDOptions>},
    {"Adam",
     [](const Parameters& parameters) {
       using Options = torch::optim::AdamOptions;
       return Make<torch::optim::Adam, Options>(
           parameters, {Options(0.125).betas({0.75, 0.875}), Options(0.25).weight_decay(0.01),
                        Options(0.0625).betas({0.5, 0.75}).amsgrad(true)});
     },
     &MakeOfDefaults<torch::optim::Adam, torch::optim::AdamOptions>},
    {"AdamW",
     [](const Parameters& parameters) {
       using Options = torch::optim::AdamWOptions;
       return Make<torch::optim::AdamW, Options>(
           parameters, {Options(0.125).betas({0.75, 0.875}).amsgrad(true), Options(0.25).eps(0.001),
                        Options(0.0625).weight_decay(0.1)});
     },
     &MakeOfDefaults<torch::optim::AdamW, torch::optim::AdamWOptions>},
    {"RMSprop",
     [](const Parameters& parameters) {
       using Options = torch::optim::RMSpropOptions;
       return Make<torch::optim::RMSprop, Options>(
           parameters, {Options(0.125).alpha(0.75).momentum(0.5).centered(true),
                        Options(0.03125).momentum(0.25).weight_decay(0.01),
                        Options(0.0625).centered(true).eps(0.001)});
     },
     &MakeOfDefaults<torch::optim::RMSprop, torch::optim::RMSpropOptions>},
    {"Adagrad",
     [](const Parameters& parameters) {
       using Options = torch::optim::AdagradOptions;
       return Make<torch::optim::Adagrad, Options>(
           parameters, {Options(0.125).lr_decay(0.25), Options(0.25).weight_decay(0.01),
                        Options(0.0625).eps(0.001)});
     },
     &MakeOfDefaults<torch::optim::Adagrad, torch::optim::AdagradOptions>},
};

torch::nn::Sequential FrozenModel(uint64_t seed) {
  auto model = SmallModel(seed);
  model->named_parameters()["0.bias"].set_requires_grad(false);
  return model;
}

// As train() of python_training.py.
void Train(torch::nn::Sequential& model, torch::optim::Optimizer& optimizer) {
  const at::Tensor data =
      torch::arange(40, torch::kFloat32).mul(7).remainder(11).div(8).reshape({8, 5});
  for (int i = 0; i < kSteps; ++i) {
    optimizer.zero_grad();
    model->forward(data).square().mean().backward();
    optimizer.step();
  }
}

// What the model and the optimizer have, under the names of python_training.py.
TensorResults TrainingOf(const torch::nn::Sequential& model, torch::optim::Optimizer& optimizer) {
  TensorResults results = ResultsOf(model);
  const auto state = ToStateDict(optimizer);
  EXPECT_OK(state.status());
  for (const StateEntry& parameter : Dict(*state, "state")) {
    for (const StateEntry& field : *parameter.value.If<StateDict>()) {
      const at::Tensor* tensor = field.value.If<at::Tensor>();
      const at::Tensor value = tensor ? *tensor : torch::tensor(*field.value.AsInt());
      results[absl::StrCat("optimizer.", parameter.key.ToString(), ".", field.key.ToString())] =
          value.flatten().to(torch::kFloat64);
    }
  }
  return results;
}

class PythonOptimizers : public PythonTest, public ::testing::WithParamInterface<OptimizerClass> {
 protected:
  // Loads python@1 in place, trains on, and has what Python has.
  void GoOnFromPython(torch::nn::Sequential& model, torch::optim::Optimizer& optimizer,
                      const TensorResults& python) {
    StateDict state{
        {"model", model}, {"optimizer", optimizer}, {"epoch", 0}, {"history", StateList()}};
    const auto loaded = checkpointer_->Load(1, state);
    ASSERT_OK(loaded.status());
    EXPECT_TRUE(loaded->remainder.empty());
    EXPECT_EQ(*state.Find("epoch")->AsInt(), 3);
    EXPECT_EQ(state.Find("history")->If<StateList>()->size(), 3u);
    Train(model, optimizer);
    const TensorResults here = TrainingOf(model, optimizer);
    EXPECT_EQ(here.size(), python.size());
    for (const auto& [name, tensor] : here) {
      ASSERT_TRUE(python.contains(name)) << name;
      EXPECT_TRUE(torch::equal(tensor, python.at(name)))
          << name << "\n" << tensor << "\n" << python.at(name);
    }
  }
};

TEST_P(PythonOptimizers, TrainingGoesOnFromATorchSaveFile) {
  const std::string file = scratch_ / "training.pt";
  Python({"python_training.py", "save", GetParam().name, file, scratch_ / "results"});
  Ckptctl({"checkpoint", "import", "python@1", file});
  const TensorResults python = ReadResults(scratch_ / "results");
  {
    SCOPED_TRACE("an optimizer that never stepped, of other options");
    auto model = FrozenModel(9);
    const auto optimizer = GetParam().make_of_defaults(model->parameters());
    GoOnFromPython(model, *optimizer, python);
  }
  {
    SCOPED_TRACE("one with a state of its own, of the same options");
    auto model = SmallModel(9);  // the parameter that Python froze has had gradients here
    const auto optimizer = GetParam().make(model->parameters());
    Train(model, *optimizer);
    at::Tensor frozen = model->named_parameters()["0.bias"];
    frozen.set_requires_grad(false);
    frozen.mutable_grad() = at::Tensor();
    GoOnFromPython(model, *optimizer, python);
  }
}

TEST_P(PythonOptimizers, TrainingGoesOnInPython) {
  auto model = FrozenModel(5);
  const auto optimizer = GetParam().make(model->parameters());
  Train(model, *optimizer);
  auto save = checkpointer_->Save(3, {{"model", model}, {"optimizer", *optimizer}});
  ASSERT_OK(save.status());
  ASSERT_OK(save->AwaitCommitted(absl::Minutes(1)));
  Train(model, *optimizer);
  WriteResults(TrainingOf(model, *optimizer), scratch_ / "results");
  const std::string exported = scratch_ / "exported.safetensors";
  const std::string for_torch = scratch_ / "exported.pt";
  Ckptctl({"checkpoint", "export", "python@3", exported});
  Ckptctl({"checkpoint", "export", "python@3", for_torch});
  std::vector<std::string> words = {
      "python_training.py", "resume", GetParam().name, scratch_ / "results", exported, for_torch};
  for (const std::string& name : daemon_->DataFiles()) {  // as the daemon stores it
    if (absl::EndsWith(name, ".safetensors")) {
      words.push_back(absl::StrCat(daemon_->data_folder(), "/", name));
    }
  }
  EXPECT_EQ(words.size(), 7u);
  Python(words);
}

INSTANTIATE_TEST_SUITE_P(All, PythonOptimizers, ::testing::ValuesIn(kClasses),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace ckpt::testing
