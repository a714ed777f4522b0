// Optimizers: training goes on bit-equal after a load, for each class, plain and sharded.
#include <cmath>

#include "client/torch/optimizer_codec.h"
#include "tests/torch/torch_test.h"

namespace ckpt::testing {
namespace {

using ::testing::HasSubstr;
using torch::optim::Optimizer;

struct Kind {
  const char* name;
  std::unique_ptr<Optimizer> (*make)(std::vector<torch::optim::OptimizerParamGroup> groups,
                                     double lr);
};

void PrintTo(const Kind& kind, std::ostream* out) { *out << kind.name; }

using Groups = std::vector<torch::optim::OptimizerParamGroup>;

const Kind kKinds[] = {
    {"Sgd",
     [](Groups groups, double lr) -> std::unique_ptr<Optimizer> {
       return std::make_unique<torch::optim::SGD>(std::move(groups), torch::optim::SGDOptions(lr));
     }},
    {"SgdMomentum",
     [](Groups groups, double lr) -> std::unique_ptr<Optimizer> {
       return std::make_unique<torch::optim::SGD>(
           std::move(groups), torch::optim::SGDOptions(lr).momentum(0.9).nesterov(true));
     }},
    {"Adam",
     [](Groups groups, double lr) -> std::unique_ptr<Optimizer> {
       return std::make_unique<torch::optim::Adam>(
           std::move(groups), torch::optim::AdamOptions(lr).betas({0.8, 0.9}).amsgrad(true));
     }},
    {"AdamW",
     [](Groups groups, double lr) -> std::unique_ptr<Optimizer> {
       return std::make_unique<torch::optim::AdamW>(std::move(groups),
                                                    torch::optim::AdamWOptions(lr));
     }},
    {"RmsProp",
     [](Groups groups, double lr) -> std::unique_ptr<Optimizer> {
       return std::make_unique<torch::optim::RMSprop>(
           std::move(groups), torch::optim::RMSpropOptions(lr).momentum(0.5).centered(true));
     }},
    {"Adagrad",
     [](Groups groups, double lr) -> std::unique_ptr<Optimizer> {
       return std::make_unique<torch::optim::Adagrad>(
           std::move(groups), torch::optim::AdagradOptions(lr).lr_decay(0.01));
     }},
};

class OptimizerKinds : public ::testing::TestWithParam<Kind> {
 protected:
  // Two groups, the second with a learning rate of its own.
  std::unique_ptr<Optimizer> Make(torch::nn::Sequential& model, double lr) {
    const auto parameters = model->parameters();
    Groups groups;
    groups.emplace_back(std::vector<at::Tensor>(parameters.begin(), parameters.begin() + 2));
    groups.emplace_back(std::vector<at::Tensor>(parameters.begin() + 2, parameters.end()));
    auto optimizer = GetParam().make(std::move(groups), lr);
    optimizer->param_groups()[1].options().set_lr(lr / 2);
    return optimizer;
  }
};

TEST_P(OptimizerKinds, TrainingGoesOnBitEqual) {
  auto model = SmallModel(1);
  auto optimizer = Make(model, 0.02);
  for (uint64_t i = 0; i < 3; ++i) TrainStep(model, *optimizer, i);
  const auto plan = Saved({{"model", model}, {"optimizer", *optimizer}});

  auto resumed = SmallModel(9);
  auto other = Make(resumed, 0.5);
  StateDict state{{"model", resumed}, {"optimizer", *other}};
  const auto result = LoadFrom(plan, state);
  ASSERT_OK(result.status());
  EXPECT_TRUE(result->remainder.empty());
  EXPECT_EQ(other->param_groups()[0].options().get_lr(), 0.02);
  EXPECT_EQ(other->param_groups()[1].options().get_lr(), 0.01);
  for (uint64_t i = 3; i < 6; ++i) {
    TrainStep(model, *optimizer, i);
    TrainStep(resumed, *other, i);
  }
  for (size_t i = 0; i < model->parameters().size(); ++i) {
    EXPECT_TRUE(BitEqual(model->parameters()[i], resumed->parameters()[i])) << i;
  }
}

TEST_P(OptimizerKinds, RollsBackInPlace) {
  auto model = SmallModel(1);
  auto optimizer = Make(model, 0.02);
  TrainStep(model, *optimizer, 0);
  const auto plan = Saved({{"model", model}, {"optimizer", *optimizer}});
  const auto before = ToStateDict(*optimizer);
  TrainStep(model, *optimizer, 1);
  const auto addresses = [&] {
    std::vector<void*> result;
    const auto dict = ToStateDict(*optimizer);
    for (const StateEntry& parameter : Dict(*dict, "state")) {
      for (const StateEntry& field : *parameter.value.If<StateDict>()) {
        const at::Tensor* tensor = field.value.If<at::Tensor>();
        if (tensor && *field.key.name() != "step") result.push_back(tensor->data_ptr());
      }
    }
    return result;
  };
  const auto old = addresses();
  StateDict state{{"model", model}, {"optimizer", *optimizer}};
  ASSERT_OK(LoadFrom(plan, state).status());
  EXPECT_EQ(addresses(), old);
  // And the same step from here gives what it gave.
  auto reference = SmallModel(1);
  auto other = Make(reference, 0.02);
  TrainStep(reference, *other, 0);
  TrainStep(reference, *other, 5);
  TrainStep(model, *optimizer, 5);
  EXPECT_TRUE(BitEqual(model->parameters()[0], reference->parameters()[0]));
}

TEST_P(OptimizerKinds, ThatNeverSteppedSavesAndLoads) {
  auto model = SmallModel(1);
  auto fresh = Make(model, 0.02);
  const auto plan = Saved({{"optimizer", *fresh}});
  auto stepped_model = SmallModel(1);
  auto stepped = Make(stepped_model, 0.3);
  TrainStep(stepped_model, *stepped, 0);
  StateDict state{{"optimizer", *stepped}};
  ASSERT_OK(LoadFrom(plan, state).status());
  // It is as fresh as the other again.
  StateDict weights{{"model", stepped_model}};
  ASSERT_OK(LoadFrom(Saved({{"model", model}}), weights).status());
  TrainStep(model, *fresh, 3);
  TrainStep(stepped_model, *stepped, 3);
  for (size_t i = 0; i < model->parameters().size(); ++i) {
    EXPECT_TRUE(BitEqual(model->parameters()[i], stepped_model->parameters()[i])) << i;
  }
}

TEST_P(OptimizerKinds, AnErrorLeavesItUntouched) {
  auto model = SmallModel(1);
  auto optimizer = Make(model, 0.02);
  TrainStep(model, *optimizer, 0);
  const auto plan = Saved({{"optimizer", *optimizer}});
  TrainStep(model, *optimizer, 1);
  optimizer->param_groups()[0].options().set_lr(0.7);
  const auto kept = Saved({{"optimizer", *optimizer}});
  StateDict state{{"optimizer", *optimizer}, {"missing", 1}};
  EXPECT_TRUE(absl::IsNotFound(LoadFrom(plan, state).status()));
  EXPECT_EQ(optimizer->param_groups()[0].options().get_lr(), 0.7);
  const auto then = LoadRaw(*kept, {}, {});
  const auto now = LoadRaw(*Saved({{"optimizer", *optimizer}}), {}, {});
  ASSERT_OK(then.status());
  ASSERT_OK(now.status());
  for (const StateEntry& parameter : Dict(Dict(*then, "optimizer"), "state")) {
    for (const StateEntry& field : *parameter.value.If<StateDict>()) {
      const at::Tensor* tensor = field.value.If<at::Tensor>();
      if (tensor == nullptr) continue;
      EXPECT_TRUE(BitEqual(
          *tensor,
          TensorAt(Dict(Dict(Dict(*now, "optimizer"), "state"), parameter.key), field.key)));
    }
  }
}

// What LibTorch's class cannot do must not be forgotten silently: it would train differently.
TEST_P(OptimizerKinds, AnOptionThatItCannotDoIsRefused) {
  auto model = SmallModel(1);
  auto optimizer = Make(model, 0.02);
  const auto saved = ToStateDict(*optimizer);
  ASSERT_OK(saved.status());
  const auto load = [&](const char* option, bool value) {
    StateDict stored = *saved;
    StateDict& group = *(*stored.Find("param_groups")->If<StateList>())[1].If<StateDict>();
    group[option] = value;
    group["lr"] = 0.5;
    StateDict state{{"optimizer", *optimizer}};
    return LoadFrom(Saved({{"optimizer", stored}}), state).status();
  };
  std::vector<const char*> options = {"maximize"};
  // With it, Adam of later PyTorch is AdamW in all but its name.
  if (GetParam().name == std::string("Adam")) options.push_back("decoupled_weight_decay");
  for (const char* option : options) {
    optimizer->param_groups()[1].options().set_lr(0.01);
    const absl::Status status = load(option, true);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()),
                HasSubstr(std::string(option) + ": LibTorch's optimizer can only do false"));
    EXPECT_EQ(optimizer->param_groups()[1].options().get_lr(), 0.01);
    ASSERT_OK(load(option, false));
    EXPECT_EQ(optimizer->param_groups()[1].options().get_lr(), 0.5);
  }
}

// PyTorch 2 takes a scalar tensor as the learning rate, and keeps it in its state_dict().
TEST_P(OptimizerKinds, ATensorIsALearningRateToo) {
  auto model = SmallModel(1);
  auto optimizer = Make(model, 0.02);
  const auto saved = ToStateDict(*optimizer);
  ASSERT_OK(saved.status());
  const auto load = [&](at::Tensor lr) {
    StateDict stored = *saved;
    StateDict& group = *(*stored.Find("param_groups")->If<StateList>())[1].If<StateDict>();
    group["lr"] = std::move(lr);
    StateDict state{{"optimizer", *optimizer}};
    return LoadFrom(Saved({{"optimizer", stored}}), state).status();
  };
  optimizer->param_groups()[0].options().set_lr(0.7);
  ASSERT_OK(load(torch::tensor(0.125f)));
  EXPECT_EQ(optimizer->param_groups()[0].options().get_lr(), 0.02);
  EXPECT_EQ(optimizer->param_groups()[1].options().get_lr(), 0.125);
  ASSERT_OK(load(torch::tensor({0.25}, torch::kFloat64)));
  EXPECT_EQ(optimizer->param_groups()[1].options().get_lr(), 0.25);
  for (const at::Tensor& no_rate : {torch::ones({2}), torch::tensor(true)}) {
    const absl::Status status = load(no_rate);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("optimizer.param_groups.1: lr: "));
    EXPECT_EQ(optimizer->param_groups()[1].options().get_lr(), 0.25);
  }
}

INSTANTIATE_TEST_SUITE_P(All, OptimizerKinds, ::testing::ValuesIn(kKinds),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(OptimizerErrors, GroupsMustFit) {
  auto model = SmallModel(1);
  torch::optim::SGD saved(model->parameters(), torch::optim::SGDOptions(0.1));
  const auto plan = Saved({{"optimizer", saved}});
  torch::optim::SGD fewer(std::vector<at::Tensor>{model->parameters()[0]},
                          torch::optim::SGDOptions(0.2));
  for (const bool strict : {true, false}) {
    LoadOptions options;
    options.strict = strict;
    StateDict state{{"optimizer", fewer}};
    const absl::Status status = LoadFrom(plan, state, options).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("optimizer.param_groups.0: the checkpoint's group has 6 parameters, the "
                          "optimizer's 1"));
  }
  EXPECT_EQ(fewer.param_groups()[0].options().get_lr(), 0.2);
}

TEST(OptimizerErrors, AnotherClassIsNoticed) {
  auto model = SmallModel(1);
  torch::optim::Adam adam(model->parameters(), torch::optim::AdamOptions(0.1));
  TrainStep(model, adam, 0);
  torch::optim::SGD sgd(model->parameters(), torch::optim::SGDOptions(0.2));
  StateDict state{{"optimizer", sgd}};
  const absl::Status status = LoadFrom(Saved({{"optimizer", adam}}), state).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("optimizer.state.0.exp_avg"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("optimizer.param_groups.0.momentum"));
}

// What a step is, is known before anything is touched, wherever it stands.
TEST(OptimizerErrors, AStepThatIsNoneIsFoundBeforeAnythingIsTouched) {
  auto saved = SmallModel(1);
  torch::optim::AdamW saved_optimizer(saved->parameters(), torch::optim::AdamWOptions(0.1));
  TrainStep(saved, saved_optimizer, 0);
  const auto described = ToStateDict(saved_optimizer);
  ASSERT_OK(described.status());
  const std::vector<std::pair<StateValue, std::string>> steps = {
      {"four", "not a number of steps"},
      {nullptr, "not a number of steps"},
      {StateList{4}, "expected a number"},
      {-1, "-1 is not a number of steps"},
      {0.5, "0.5 is not a number of steps"},
      {torch::tensor(-1.0f), "-1 is not a number of steps"},
      {torch::tensor(2.5f), "2.5 is not a number of steps"},
      {torch::tensor(std::nanf("")), "nan is not a number of steps"},
      {torch::ones({2}), "not a number of steps"},
      {torch::ones({}, torch::kComplexFloat), "not a number of steps"}};
  for (const auto& [step, text] : steps) {
    StateDict stored = *described;
    (*stored.Find("state")->If<StateDict>()->Find(1)->If<StateDict>())["step"] = step;
    const auto plan = Saved({{"model", saved}, {"optimizer", stored}});
    auto model = SmallModel(2);
    torch::optim::AdamW optimizer(model->parameters(), torch::optim::AdamWOptions(0.5));
    TrainStep(model, optimizer, 5);
    const at::Tensor weight = model->parameters()[0].detach().clone();
    const auto moment_of = [&](size_t i) {
      return static_cast<torch::optim::AdamWParamState&>(
                 *FindParamState(optimizer, model->parameters()[i]))
          .exp_avg()
          .clone();
    };
    const at::Tensor moment = moment_of(1);
    StateDict state{{"model", model}, {"optimizer", optimizer}};
    LoadReport report;
    LoadOptions options;
    options.report = &report;
    const absl::Status status = LoadFrom(plan, state, options).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    const std::string told = "optimizer.state.1.step: " + text;
    EXPECT_THAT(std::string(status.message()), HasSubstr(told));
    EXPECT_THAT(std::string(status.message()), HasSubstr("Nothing was changed"));
    EXPECT_THAT(report.mismatched, ::testing::ElementsAre(told));
    EXPECT_TRUE(BitEqual(model->parameters()[0], weight)) << told;
    EXPECT_TRUE(BitEqual(moment_of(1), moment)) << told;
    EXPECT_EQ(optimizer.param_groups()[0].options().get_lr(), 0.5);
    // Skipped, it leaves that parameter's state as it is, and no other's.
    options.strict = false;
    options.mismatch = LoadOptions::Mismatch::kSkip;
    ASSERT_OK(LoadFrom(plan, state, options).status());
    EXPECT_TRUE(BitEqual(model->parameters()[0], saved->parameters()[0])) << told;
    EXPECT_TRUE(BitEqual(moment_of(1), moment)) << told;
    EXPECT_TRUE(BitEqual(moment_of(0), TensorAt(Dict(Dict(stored, "state"), 0), "exp_avg")));
  }
}

TEST(OptimizerErrors, ADamagedStepIsToldWithTheRest) {
  auto saved = SmallModel(1);
  torch::optim::AdamW saved_optimizer(saved->parameters(), torch::optim::AdamWOptions(0.1));
  TrainStep(saved, saved_optimizer, 0);
  const auto plan = Saved({{"model", saved}, {"optimizer", saved_optimizer}});
  auto model = SmallModel(2);
  torch::optim::AdamW optimizer(model->parameters(), torch::optim::AdamWOptions(0.5));
  StateDict state{{"model", model}, {"optimizer", optimizer}};
  LoadReport report;
  LoadOptions options;
  options.report = &report;
  // The daemon is gone: nothing has been touched yet.
  const at::Tensor weight = model->parameters()[0].detach().clone();
  plan->FailNextRead(absl::UnavailableError("the daemon is gone"));
  const absl::Status gone = LoadFrom(plan, state, options).status();
  EXPECT_TRUE(absl::IsUnavailable(gone)) << gone;
  EXPECT_THAT(std::string(gone.message()), HasSubstr("the daemon is gone. Nothing was changed"));
  EXPECT_TRUE(BitEqual(model->parameters()[0], weight));
  plan->Damage("optimizer.state.1.step");
  const absl::Status damaged = LoadFrom(plan, state, options).status();
  EXPECT_TRUE(absl::IsDataLoss(damaged)) << damaged;
  EXPECT_THAT(report.damaged, ::testing::ElementsAre("optimizer.state.1.step"));
  EXPECT_TRUE(BitEqual(model->parameters()[0], saved->parameters()[0]));
  EXPECT_TRUE(optimizer.state().empty());
}

TEST(OptimizerErrors, NoStepIsReadTwice) {
  auto parameter = torch::ones({2}, torch::requires_grad());
  torch::optim::AdamW optimizer(std::vector<at::Tensor>{parameter},
                                torch::optim::AdamWOptions(0.1));
  parameter.sum().backward();
  optimizer.step();
  StateDict state{{"optimizer", optimizer}};
  const auto plan = Saved(state);
  const auto result = LoadFrom(plan, state);
  ASSERT_OK(result.status());
  EXPECT_EQ(plan->elements_read(), 2u + 2u + 1u);
  EXPECT_EQ(result->report.bytes.bytes_asked, 5 * sizeof(float));
  EXPECT_THAT(result->report.restored, ::testing::Contains("optimizer.state.0.step"));
}

// All of a parameter's state is loaded, or none of it.
TEST(OptimizerNonStrict, AStateThatDoesNotFitLeavesTheOldOne) {
  const auto moments = [](at::Tensor exp_avg, at::Tensor exp_avg_sq) {
    return StateDict{{"step", torch::tensor(4.0f)},
                     {"exp_avg", std::move(exp_avg)},
                     {"exp_avg_sq", std::move(exp_avg_sq)}};
  };
  auto parameter = torch::ones({2}, torch::requires_grad());
  torch::optim::AdamW optimizer(std::vector<at::Tensor>{parameter},
                                torch::optim::AdamWOptions(0.1));
  const auto described = ToStateDict(optimizer);
  ASSERT_OK(described.status());
  LoadOptions options;
  options.strict = false;
  options.mismatch = LoadOptions::Mismatch::kSkip;
  const auto load = [&](StateDict fields) {
    StateDict stored = *described;
    stored["state"] = StateDict{{0, std::move(fields)}};
    StateDict state{{"optimizer", optimizer}};
    return LoadFrom(Saved({{"optimizer", stored}}), state, options).status();
  };
  const std::vector<StateDict> unfit = {
      moments(torch::full({2}, 7.0f), torch::full({3}, 7.0f)),
      moments(torch::full({3}, 7.0f), torch::full({2}, 7.0f)),
      StateDict{{"step", torch::tensor(4.0f)}, {"exp_avg", torch::full({2}, 7.0f)}}};
  for (const StateDict& fields : unfit) {
    ASSERT_OK(load(fields));
    EXPECT_TRUE(optimizer.state().empty());
  }
  parameter.sum().backward();
  optimizer.step();
  const auto& now = static_cast<torch::optim::AdamWParamState&>(*optimizer.state().begin()->second);
  const at::Tensor exp_avg = now.exp_avg().clone();
  const at::Tensor exp_avg_sq = now.exp_avg_sq().clone();
  for (const StateDict& fields : unfit) {
    ASSERT_OK(load(fields));
    const auto& then =
        static_cast<torch::optim::AdamWParamState&>(*optimizer.state().begin()->second);
    EXPECT_EQ(then.step(), 1);
    EXPECT_TRUE(BitEqual(then.exp_avg(), exp_avg));
    EXPECT_TRUE(BitEqual(then.exp_avg_sq(), exp_avg_sq));
  }
  ASSERT_OK(load(moments(torch::full({2}, 7.0f), torch::full({2}, 7.0f))));
  const auto& loaded =
      static_cast<torch::optim::AdamWParamState&>(*optimizer.state().begin()->second);
  EXPECT_EQ(loaded.step(), 4);
  EXPECT_TRUE(BitEqual(loaded.exp_avg(), torch::full({2}, 7.0f)));
}

TEST(OptimizerNonStrict, ACheckpointWithoutStateLeavesTheOldOne) {
  auto parameter = torch::ones({2}, torch::requires_grad());
  torch::optim::AdamW optimizer(std::vector<at::Tensor>{parameter},
                                torch::optim::AdamWOptions(0.1));
  parameter.sum().backward();
  optimizer.step();
  auto stored = ToStateDict(optimizer);
  ASSERT_OK(stored.status());
  stored->Erase("state");
  optimizer.param_groups()[0].options().set_lr(0.7);
  LoadOptions options;
  options.strict = false;
  StateDict state{{"optimizer", optimizer}};
  const auto result = LoadFrom(Saved({{"optimizer", *stored}}), state, options);
  ASSERT_OK(result.status());
  EXPECT_THAT(result->report.missing, ::testing::ElementsAre("optimizer.state"));
  EXPECT_EQ(optimizer.param_groups()[0].options().get_lr(), 0.1);
  ASSERT_EQ(optimizer.state().size(), 1u);
  EXPECT_EQ(static_cast<torch::optim::AdamWParamState&>(*optimizer.state().begin()->second).step(),
            1);
}

TEST(OptimizerForeign, PythonsOwnDictionaryLoads) {
  // As /usr/bin/python3's AdamW writes it: integers where a float is whole, a tensor step.
  const StateDict python{
      {"state", StateDict{{0, StateDict{{"step", torch::tensor(4.0f)},
                                        {"exp_avg", torch::full({2}, 0.5f)},
                                        {"exp_avg_sq", torch::full({2}, 0.25f)}}}}},
      {"param_groups", StateList{StateDict{{"lr", 0.5},
                                           {"betas", StateList{0.9, 0.99}},
                                           {"eps", 1e-8},
                                           {"weight_decay", 0},
                                           {"amsgrad", false},
                                           {"foreach", nullptr},
                                           {"maximize", false},
                                           {"capturable", false},
                                           {"initial_lr", 1.0},
                                           {"params", StateList{0}}}}}};
  auto parameter = torch::ones({2}, torch::requires_grad());
  torch::optim::AdamW optimizer(std::vector<at::Tensor>{parameter},
                                torch::optim::AdamWOptions(0.1));
  StateDict state{{"optimizer", optimizer}};
  ASSERT_OK(LoadFrom(Saved({{"optimizer", python}}), state).status());
  const auto& options =
      static_cast<torch::optim::AdamWOptions&>(optimizer.param_groups()[0].options());
  EXPECT_EQ(options.lr(), 0.5);
  EXPECT_EQ(options.weight_decay(), 0.0);
  EXPECT_EQ(std::get<1>(options.betas()), 0.99);
  ASSERT_EQ(optimizer.state().size(), 1u);
  const auto& loaded =
      static_cast<torch::optim::AdamWParamState&>(*optimizer.state().begin()->second);
  EXPECT_EQ(loaded.step(), 4);
  EXPECT_TRUE(BitEqual(loaded.exp_avg(), torch::full({2}, 0.5f)));
}

// ZeRO-1 on `ranks` ranks: each steps its rows of every parameter.
struct ShardedTrainer {
  ShardedTrainer(const torch::nn::Sequential& model, int rank, int ranks, double lr) {
    std::vector<int64_t> indices;
    std::vector<at::Tensor> locals;
    for (const at::Tensor& parameter : model->parameters()) {
      const int64_t rows = parameter.size(0);
      const int64_t each = (rows + ranks - 1) / ranks;
      const int64_t begin = std::min(rows, each * rank);
      const int64_t end = std::min(rows, begin + each);
      std::vector<int64_t> offset(static_cast<size_t>(parameter.dim()), 0);
      offset[0] = begin;
      const auto index = static_cast<int64_t>(indices.size());
      indices.push_back(index);
      if (begin == end) continue;
      locals.push_back(parameter.detach().slice(0, begin, end).clone().set_requires_grad(true));
      description.parameters.push_back({index, parameter.sizes().vec(), offset, 0, 1});
    }
    description.groups = {indices};
    // A group may be empty on a rank that holds nothing.
    optimizer = std::make_unique<torch::optim::AdamW>(locals, torch::optim::AdamWOptions(lr));
    description.optimizer = optimizer.get();
  }
  // The gradient of an element depends on its place alone, so any sharding computes the same.
  void Step(int64_t n) {
    size_t k = 0;
    for (at::Tensor& local : optimizer->param_groups()[0].params()) {
      const auto& parameter = description.parameters[k++];
      int64_t elements = 1;
      for (const int64_t size : parameter.global_shape) elements *= size;
      const auto whole =
          torch::arange(elements).add(parameter.index + n).sin().view(parameter.global_shape);
      local.mutable_grad() =
          whole.slice(0, parameter.offset[0], parameter.offset[0] + local.size(0)).clone();
    }
    optimizer->step();
  }
  std::unique_ptr<torch::optim::AdamW> optimizer;
  ShardedOptimizer description;
};

std::vector<torch::optim::AdamWParamState*> OptimizerStateOf(ShardedTrainer& trainer) {
  std::vector<torch::optim::AdamWParamState*> states;
  for (const at::Tensor& local : trainer.optimizer->param_groups()[0].params()) {
    states.push_back(
        static_cast<torch::optim::AdamWParamState*>(FindParamState(*trainer.optimizer, local)));
  }
  return states;
}

class ShardedWorlds : public ::testing::TestWithParam<std::pair<int, int>> {};

TEST_P(ShardedWorlds, OptimizerStateReshards) {
  const auto [from, to] = GetParam();
  auto model = SmallModel(1);  // parameters of 3 to 7 rows: with 8 ranks the last ones hold nothing
  std::vector<ShardedTrainer> savers;
  std::vector<StateDict> states;
  for (int rank = 0; rank < from; ++rank) {
    savers.reserve(8);
    ShardedTrainer& saver = savers.emplace_back(model, rank, from, 0.02);
    saver.Step(1);
    saver.Step(2);
    states.push_back({{"optimizer", saver.description}});
  }
  const auto plan = SavedBy(states);

  // A trainer that never sharded is what all must equal.
  ShardedTrainer reference(model, 0, 1, 0.02);
  for (int step = 1; step <= 2; ++step) reference.Step(step);
  const auto wanted = ToStateDict(*reference.optimizer);
  ASSERT_OK(wanted.status());

  for (int rank = 0; rank < to; ++rank) {
    ShardedTrainer loader(model, rank, to, 0.5);
    StateDict state{{"optimizer", loader.description}};
    const auto result =
        LoadFrom(plan, state, {}, {static_cast<uint32_t>(rank), static_cast<uint32_t>(to)});
    ASSERT_OK(result.status());
    const auto loaded = OptimizerStateOf(loader);
    for (size_t k = 0; k < loader.description.parameters.size(); ++k) {
      const auto& parameter = loader.description.parameters[k];
      const StateDict& whole = Dict(Dict(*wanted, "state"), parameter.index);
      const int64_t begin = parameter.offset[0];
      const auto& fields = *loaded[k];
      EXPECT_EQ(fields.step(), 2);
      EXPECT_TRUE(
          BitEqual(fields.exp_avg(),
                   TensorAt(whole, "exp_avg").slice(0, begin, begin + fields.exp_avg().size(0))));
      EXPECT_TRUE(BitEqual(
          fields.exp_avg_sq(),
          TensorAt(whole, "exp_avg_sq").slice(0, begin, begin + fields.exp_avg_sq().size(0))));
    }
    EXPECT_EQ(loader.optimizer->param_groups()[0].options().get_lr(), 0.02);
  }

  // One optimizer over whole parameters reads the same checkpoint.
  torch::optim::AdamW whole(model->parameters(), torch::optim::AdamWOptions(0.5));
  StateDict state{{"optimizer", whole}};
  ASSERT_OK(LoadFrom(plan, state).status());
  const auto now = ToStateDict(whole);
  ASSERT_OK(now.status());
  for (const StateEntry& parameter : Dict(*wanted, "state")) {
    for (const StateEntry& field : *parameter.value.If<StateDict>()) {
      EXPECT_TRUE(BitEqual(*field.value.If<at::Tensor>(),
                           TensorAt(Dict(Dict(*now, "state"), parameter.key), field.key)));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Worlds, ShardedWorlds,
                         ::testing::Values(std::pair{1, 1}, std::pair{1, 3}, std::pair{2, 2},
                                           std::pair{3, 2}, std::pair{4, 1}, std::pair{2, 8},
                                           std::pair{8, 4}),
                         [](const auto& info) {
                           return std::to_string(info.param.first) + "to" +
                                  std::to_string(info.param.second);
                         });

TEST(ShardedOptimizerErrors, DescriptionsMustFit) {
  auto model = SmallModel(1);
  ShardedTrainer trainer(model, 0, 2, 0.1);
  const auto save = [](const ShardedOptimizer& description) {
    return PartOf({{"optimizer", description}}).status();
  };
  ASSERT_OK(save(trainer.description));
  ShardedOptimizer broken = trainer.description;
  broken.parameters.pop_back();
  EXPECT_TRUE(absl::IsInvalidArgument(save(broken)));
  broken = trainer.description;
  broken.groups.clear();
  EXPECT_TRUE(absl::IsInvalidArgument(save(broken)));
  broken = trainer.description;
  broken.parameters[0].index = 99;
  EXPECT_TRUE(absl::IsInvalidArgument(save(broken)));
  broken = trainer.description;
  broken.parameters[0].offset[0] = 1000;
  EXPECT_TRUE(absl::IsInvalidArgument(save(broken)));
}

}  // namespace
}  // namespace ckpt::testing
