// What a checkpoint becomes when it is loaded: in place, remainder, strict and not, refusals.
#include <limits>

#include "absl/strings/str_cat.h"
#include "client/torch/optimizer_codec.h"
#include "tests/torch/torch_test.h"

namespace ckpt::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(LoadInPlace, AutogradIsTold) {
  auto tensor = torch::zeros({2}, torch::requires_grad());
  const auto version = tensor._version();
  StateDict state{{"t", tensor}};
  ASSERT_OK(LoadFrom(Saved({{"t", torch::ones({2})}}), state).status());
  EXPECT_GT(tensor._version(), version);
}

TEST(LoadInPlace, StridedAndOverlappingTargets) {
  auto stored = torch::arange(12.0f).view({3, 4});
  auto base = torch::zeros({4, 3});
  auto view = base.t();  // strided
  auto whole = torch::zeros({3, 4});
  StateDict state{{"a", view}, {"b", whole}, {"c", whole.view({12})}};
  ASSERT_OK(LoadFrom(Saved({{"a", stored}, {"b", stored}, {"c", stored.view({12}) + 1}}), state)
                .status());
  EXPECT_TRUE(torch::equal(view, stored));
  EXPECT_TRUE(torch::equal(whole, stored + 1));  // the later key, whole
}

TEST(LoadInPlace, TensorsMadeInInferenceMode) {
  const auto made = [](std::vector<int64_t> shape, c10::ScalarType type) {
    c10::InferenceMode inference;
    return torch::zeros(shape, type);
  };
  const at::Tensor dense = made({3}, torch::kFloat32);
  const at::Tensor strided = made({4, 3}, torch::kFloat32).t();
  const at::Tensor cast = made({3}, torch::kFloat64);
  StateDict state{{"dense", dense}, {"strided", strided}, {"cast", cast}};
  LoadOptions options;
  options.strict = false;
  options.mismatch = LoadOptions::Mismatch::kCast;
  const StateDict saved{
      {"dense", torch::ones(3)}, {"strided", torch::ones({3, 4})}, {"cast", torch::ones(3)}};
  ASSERT_OK(LoadFrom(Saved(saved), state, options).status());
  EXPECT_TRUE(BitEqual(dense, torch::ones(3)));
  EXPECT_TRUE(BitEqual(strided, torch::ones({3, 4})));
  EXPECT_TRUE(BitEqual(cast, torch::ones(3, torch::kFloat64)));
}

// A key may print as nothing, alone or with more below it; it is no other name for the state.
TEST(LoadInPlace, NamesOfNoLetters) {
  const StateDict saved{{"", torch::ones(2)}, {"w", StateDict{{"", torch::zeros(1)}}}};
  StateDict state{{"", torch::zeros(2)}, {"w", StateDict{{"", torch::ones(1)}}}};
  ASSERT_OK(LoadFrom(Saved(saved), state).status());
  EXPECT_TRUE(BitEqual(*state[""].If<at::Tensor>(), torch::ones(2)));
  EXPECT_TRUE(BitEqual(*(*state["w"].If<StateDict>())[""].If<at::Tensor>(), torch::zeros(1)));
  StateDict below{{"", StateDict{{"a", torch::zeros(2)}}}};
  ASSERT_OK(LoadFrom(Saved({{"", StateDict{{"a", torch::ones(2)}}}}), below).status());
  EXPECT_TRUE(BitEqual(*(*below[""].If<StateDict>())["a"].If<at::Tensor>(), torch::ones(2)));
  const auto both = LoadFrom(Saved(saved), state);
  ASSERT_OK(both.status());
  EXPECT_THAT(both->report.restored, ElementsAre("", "w."));
  const auto nested = LoadFrom(Saved({{"", StateDict{{"a", torch::ones(2)}}}}), below);
  ASSERT_OK(nested.status());
  EXPECT_THAT(nested->report.restored, ElementsAre(".a"));
  const at::Tensor shared = torch::ones(2);
  StateDict tied{{"", torch::zeros(2)}, {"t", torch::zeros(2)}};
  ASSERT_OK(LoadFrom(Saved({{"", shared}, {"t", shared}}), tied).status());
  EXPECT_TRUE(BitEqual(*tied["t"].If<at::Tensor>(), shared));
  StateDict missing{{"a", torch::zeros(2)}};
  EXPECT_TRUE(absl::IsNotFound(
      LoadFrom(Saved({{"", StateDict{{"a", torch::ones(2)}}}}), missing).status()));
}

class LoadDType : public ::testing::TestWithParam<c10::ScalarType> {};

TEST_P(LoadDType, BitsComeBack) {
  const c10::ScalarType type = GetParam();
  torch::manual_seed(3);
  auto bytes = torch::randint(0, 256, {96}, torch::kUInt8);
  auto tensor = type == c10::ScalarType::Bool ? bytes.gt(127) : bytes.view(type);
  const StateDict saved{{"flat", tensor},
                        {"turned", tensor.view({-1, 2}).t()},
                        {"apart", tensor.view({-1, 4}).slice(1, 1, 3)},
                        {"scalar", tensor[0].clone()},
                        {"empty", torch::empty({0, 4}, type)}};
  StateDict state{{"flat", torch::zeros_like(tensor)},
                  {"turned", torch::zeros({2, tensor.numel() / 2}, type)},
                  {"apart", torch::zeros({tensor.numel() / 4, 2}, type)},
                  {"scalar", torch::zeros({}, type)},
                  {"empty", torch::empty({0, 4}, type)}};
  ASSERT_OK(LoadFrom(Saved(saved), state).status());
  EXPECT_TRUE(BitEqual(TensorAt(state, "flat"), tensor));
  EXPECT_TRUE(BitEqual(TensorAt(state, "turned"), tensor.view({-1, 2}).t()));
  EXPECT_TRUE(BitEqual(TensorAt(state, "apart"), tensor.view({-1, 4}).slice(1, 1, 3)));
  EXPECT_TRUE(BitEqual(TensorAt(state, "scalar"), tensor[0]));
  EXPECT_EQ(TensorAt(state, "scalar").dim(), 0);
}

INSTANTIATE_TEST_SUITE_P(Types, LoadDType,
                         ::testing::Values(c10::ScalarType::Bool, c10::ScalarType::Byte,
                                           c10::ScalarType::Char, c10::ScalarType::Short,
                                           c10::ScalarType::Int, c10::ScalarType::Long,
                                           c10::ScalarType::Half, c10::ScalarType::BFloat16,
                                           c10::ScalarType::Float, c10::ScalarType::Double,
                                           c10::ScalarType::ComplexFloat),
                         [](const auto& info) { return std::string(c10::toString(info.param)); });

TEST(LoadStrict, NearestNamesAreLookedUpForTheFirstMissingOnes) {
  StateDict saved;
  StateDict state;
  for (int i = 0; i < 60; ++i) {
    saved[absl::StrCat("parameter_", i)] = i;
    state[absl::StrCat("parametre_", i)] = i;
  }
  const absl::Status status = LoadFrom(Saved(saved), state).status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("parametre_0 (nearest: parameter_0"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("parametre_59"));
  EXPECT_THAT(std::string(status.message()), ::testing::Not(HasSubstr("parametre_59 (")));
  LoadOptions options;
  options.strict = false;
  const auto result = LoadFrom(Saved(saved), state, options);
  ASSERT_OK(result.status());
  EXPECT_EQ(result->report.missing.size(), 60u);
}

// A lost file that holds nothing of what is wanted makes no other error of it.
TEST(LoadErrors, BoxesThatAreElsewhereAreAFailedPreconditionBesideALostFileToo) {
  const auto part = PartOf({{"half", Sharded{torch::ones({2, 2}), {4, 2}, {0, 0}}},
                            {"other", torch::ones(2)},
                            {"lost", torch::ones(2)}},
                           {}, 0, 2);
  ASSERT_OK(part.status());
  const auto plan = std::make_shared<PlanOfParts>(std::vector<Part>{*part}, 7);
  for (const char* lost : {"", "lost"}) {
    plan->Lose(lost);
    auto other = torch::zeros(2);
    StateDict state{{"half", torch::zeros({4, 2})}, {"other", other}};
    const absl::Status status = LoadFrom(plan, state).status();
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("not covered: half"));
    EXPECT_THAT(std::string(status.message()), HasSubstr("Nothing was changed"));
    EXPECT_TRUE(BitEqual(other, torch::zeros(2)));
    StateDict unfit{{"half", torch::zeros({4, 2})}, {"other", torch::zeros(3)}};
    EXPECT_TRUE(absl::IsInvalidArgument(LoadFrom(plan, unfit).status()));
  }
}

// LibTorch copies into no such tensor, or something else than it was given: that must not be found
// out after others were written.
TEST(LoadErrors, ATensorWhoseElementsShareMemoryIsRefusedBeforeAnythingIsTouched) {
  const auto plan = Saved({{"a", torch::ones(3)}, {"b", torch::ones({3, 4})}});
  const auto load = [&](const StateValue& b, at::Tensor a) {
    StateDict state{{"a", a}, {"b", b}};
    LoadOptions options;
    options.strict = false;
    return LoadFrom(plan, state, options).status();
  };
  const at::Tensor expanded = torch::zeros({3, 1}).expand({3, 4});
  for (const StateValue& b : {StateValue(expanded), StateValue(expanded.slice(1, 0, 3)),
                              StateValue(Sharded{expanded.slice(0, 0, 2), {3, 4}, {0, 0}}),
                              StateValue(torch::zeros(6).unfold(0, 4, 1))}) {
    auto a = torch::zeros(3);
    const absl::Status status = load(b, a);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("b: elements of the tensor share"));
    EXPECT_THAT(std::string(status.message()), HasSubstr("clone()"));
    EXPECT_THAT(std::string(status.message()), HasSubstr("Nothing was changed"));
    EXPECT_TRUE(BitEqual(a, torch::zeros(3)));
  }
  ASSERT_OK(load(expanded.clone(), torch::zeros(3)));
  ASSERT_OK(load(torch::zeros({6, 8}).slice(0, 0, 6, 2).slice(1, 1, 8, 2), torch::zeros(3)));
  // Nothing is shared where there is one element, or none.
  const auto few = Saved({{"one", torch::ones({1, 3})}, {"none", torch::ones({0, 3})}});
  const at::Tensor one = torch::zeros(3).expand({1, 3});
  StateDict state{{"one", one}, {"none", torch::zeros({0, 1}).expand({0, 3})}};
  ASSERT_OK(LoadFrom(few, state).status());
  EXPECT_TRUE(BitEqual(one, torch::ones({1, 3})));
}

TEST(LoadErrors, AFailedReadIsReportedAndValuesStay) {
  const auto plan = Saved({{"n", 5}, {"t", torch::ones(3)}});
  StateDict state{{"n", 1}, {"t", torch::zeros(3)}};
  plan->FailNextRead(absl::DataLossError("block 0 of t"));
  EXPECT_TRUE(absl::IsDataLoss(LoadFrom(plan, state).status()));
  EXPECT_EQ(*state["n"].AsInt(), 1);
}

// In place what is dense, beside its place what isn't: the report tells them apart.
TEST(LoadErrors, DamageIsFoundInEveryTensor) {
  const auto plan = Saved({{"a", torch::ones(3)},
                           {"b", torch::ones(3)},
                           {"c", torch::ones({2, 3})},
                           {"d", torch::ones(3)},
                           {"n", 5}});
  plan->Damage("b");
  auto c = torch::zeros({3, 2});
  auto d = torch::zeros(3, torch::kFloat64);
  StateDict state{{"a", torch::zeros(3)}, {"b", torch::zeros(3)}, {"c", c.t()}, {"d", d}, {"n", 1}};
  LoadReport report;
  LoadOptions options;
  options.strict = false;
  options.mismatch = LoadOptions::Mismatch::kCast;
  options.report = &report;
  const absl::Status status = LoadFrom(plan, state, options).status();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("1 of 4 tensors are damaged: damaged: b"));
  EXPECT_THAT(report.damaged, ElementsAre("b"));
  EXPECT_THAT(report.restored, ElementsAre("a"));
  EXPECT_TRUE(BitEqual(TensorAt(state, "a"), torch::ones(3)));
  EXPECT_TRUE(BitEqual(c, torch::zeros({3, 2})));
  EXPECT_TRUE(BitEqual(d, torch::zeros(3, torch::kFloat64)));
  EXPECT_EQ(*state["n"].AsInt(), 1);
}

TEST(LoadErrors, ADaemonThatGoesAwayWhileDamageIsLookedForIsNoDamage) {
  const auto plan = Saved({{"a", torch::ones(3)}, {"b", torch::ones(3)}, {"c", torch::ones(3)}});
  plan->Damage("a");
  plan->FailNextRead(absl::UnavailableError("the daemon is gone"), /*reads_before=*/2);
  StateDict state{{"a", torch::zeros(3)}, {"b", torch::zeros(3)}, {"c", torch::zeros(3)}};
  const auto version = TensorAt(state, "c")._version();
  LoadReport report;
  LoadOptions options;
  options.report = &report;
  const absl::Status status = LoadFrom(plan, state, options).status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("the daemon is gone"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("after damaged: a"));
  EXPECT_THAT(report.damaged, IsEmpty());
  EXPECT_THAT(report.restored, IsEmpty());
  EXPECT_GT(TensorAt(state, "c")._version(), version);  // the first read may have touched it
}

// An optimizer that never stepped gets its tensors when all is read: until then they are nobody's.
TEST(LoadErrors, DamageLeavesAnOptimizersNewStateOut) {
  auto saved = torch::nn::Linear(2, 2);
  torch::optim::AdamW saved_optimizer(saved->parameters(), torch::optim::AdamWOptions(0.1));
  saved->forward(torch::ones({1, 2})).sum().backward();
  saved_optimizer.step();
  const auto plan = Saved({{"model", saved}, {"optimizer", saved_optimizer}});
  plan->Damage("optimizer.state.1.exp_avg");
  auto model = torch::nn::Linear(2, 2);
  torch::optim::AdamW optimizer(model->parameters(), torch::optim::AdamWOptions(0.5));
  StateDict state{{"model", model}, {"optimizer", optimizer}};
  LoadReport report;
  LoadOptions options;
  options.report = &report;
  EXPECT_TRUE(absl::IsDataLoss(LoadFrom(plan, state, options).status()));
  EXPECT_THAT(report.restored, ElementsAre("model.weight", "model.bias"));
  EXPECT_THAT(report.damaged, ElementsAre("optimizer.state.1.exp_avg"));
  EXPECT_TRUE(optimizer.state().empty());
  EXPECT_EQ(optimizer.param_groups()[0].options().get_lr(), 0.5);
}

using Action = LoadPolicy::Action;

TEST(LoadPolicies, MissingAndUnexpectedByPattern) {
  const auto plan = Saved({{"model", torch::nn::Linear(2, 2)}, {"x", 1}});
  const auto load = [&](std::vector<LoadPolicy> policies, bool strict) {
    StateDict state{{"model", torch::nn::Linear(torch::nn::LinearOptions(2, 2).bias(false))},
                    {"absent", 5}};
    LoadOptions options;
    options.strict = strict;
    options.policies = std::move(policies);
    return LoadFrom(plan, state, options);
  };
  EXPECT_FALSE(load({{.glob = "absent", .missing = Action::kSkip}}, true).ok());
  EXPECT_FALSE(load({{.glob = "model.bias", .unexpected = Action::kSkip}}, true).ok());
  const auto tolerated = load({{.glob = "absent", .missing = Action::kSkip},
                               {.glob = "model.bias", .unexpected = Action::kSkip}},
                              true);
  ASSERT_OK(tolerated.status());
  EXPECT_THAT(tolerated->report.missing, ElementsAre("absent"));
  EXPECT_THAT(tolerated->report.unexpected, ElementsAre("model.bias"));
  EXPECT_THAT(KeysOf(tolerated->remainder), ElementsAre("x"));
  // Where nothing is strict, some things may be.
  const absl::Status missing = load({{.glob = "**", .missing = Action::kError}}, false).status();
  EXPECT_TRUE(absl::IsNotFound(missing)) << missing;
  const absl::Status unexpected =
      load({{.glob = "**", .unexpected = Action::kError}}, false).status();
  EXPECT_TRUE(absl::IsInvalidArgument(unexpected)) << unexpected;
  // Kept: it is in the remainder, in its place.
  const auto kept = load({{.glob = "model.*", .unexpected = Action::kKeep}}, false);
  ASSERT_OK(kept.status());
  EXPECT_THAT(KeysOf(kept->remainder), ElementsAre("model", "x"));
  EXPECT_THAT(KeysOf(Dict(kept->remainder, "model")), ElementsAre("bias"));
  // A policy that has no word for the case leaves it to the next, one that has ends the search.
  LoadPolicy by_size{.unexpected = Action::kError};
  by_size.match.set_max_bytes(8);
  EXPECT_FALSE(load({{.glob = "**", .missing = Action::kSkip}, by_size}, false).ok());
  EXPECT_TRUE(load({{.glob = "**", .unexpected = Action::kSkip}, by_size}, false).ok());
  LoadPolicy by_top{.missing = Action::kError};
  by_top.match.set_top_level("absent");
  EXPECT_FALSE(load({by_top}, false).ok());
  by_top.match.set_top_level("model");
  EXPECT_TRUE(load({by_top}, false).ok());
}

// Moments of one step beside those of another are nobody's state.
TEST(LoadPolicies, WhatAnOptimizerHasForAParameterIsLostAsAWhole) {
  const auto stepped = [](torch::nn::Linear& linear, float x) {
    auto optimizer = std::make_unique<torch::optim::AdamW>(linear->parameters());
    linear->forward(torch::full({1, 2}, x)).mul(x).sum().backward();
    optimizer->step();
    return optimizer;
  };
  const auto moments = [](torch::optim::AdamW& optimizer, const at::Tensor& parameter) {
    auto& state =
        static_cast<torch::optim::AdamWParamState&>(*FindParamState(optimizer, parameter));
    return std::vector<at::Tensor>{state.exp_avg().clone(), state.exp_avg_sq().clone()};
  };
  auto saved = torch::nn::Linear(2, 2);
  const auto saved_optimizer = stepped(saved, 1);
  const auto plan = Saved({{"optimizer", *saved_optimizer}});
  auto model = torch::nn::Linear(2, 2);
  const auto optimizer = stepped(model, 3);
  const auto weight = moments(*optimizer, model->weight);
  for (const char* lost : {"optimizer.state.0.exp_avg_sq", "optimizer.state.0.step"}) {
    plan->Lose(lost);
    StateDict state{{"optimizer", *optimizer}};
    EXPECT_TRUE(absl::IsDataLoss(LoadFrom(plan, state).status()));
    LoadOptions options;
    options.policies = {{.glob = "optimizer.**", .unreadable = Action::kSkip}};
    const auto loaded = LoadFrom(plan, state, options);
    ASSERT_OK(loaded.status());
    EXPECT_THAT(loaded->report.unreadable, ElementsAre(absl::StrCat(lost, ": lost: ", lost)));
    EXPECT_TRUE(BitEqual(moments(*optimizer, model->weight)[0], weight[0])) << lost;
    EXPECT_TRUE(BitEqual(moments(*optimizer, model->weight)[1], weight[1])) << lost;
    EXPECT_TRUE(BitEqual(moments(*optimizer, model->bias)[1],
                         moments(*saved_optimizer, saved->bias)[1]));
  }
}

TEST(LoadPolicies, NonsenseIsInvalid) {
  const auto plan = Saved({{"x", 1}});
  LoadPolicy two_globs{.glob = "a", .missing = Action::kSkip};
  two_globs.match.set_glob("b");
  LoadPolicy bad_regex{.missing = Action::kSkip};
  bad_regex.match.set_regex("(");
  for (const LoadPolicy& policy :
       {LoadPolicy{.glob = "a"}, LoadPolicy{.missing = Action::kSkip},
        LoadPolicy{.glob = "a", .missing = Action::kCast},
        LoadPolicy{.glob = "a", .unexpected = Action::kCast},
        LoadPolicy{.glob = "a", .unreadable = Action::kCast}, two_globs, bad_regex}) {
    StateDict state{{"x", 0}};
    LoadOptions options;
    options.policies = {{.glob = "a", .missing = Action::kSkip}, policy};
    const absl::Status status = LoadFrom(plan, state, options).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("policies[1]"));
  }
}

TEST(LoadPlaceholders, TakeWhateverIsThere) {
  const auto plan = Saved(
      {{"tensor", torch::ones(2)}, {"dict", StateDict{{"a", StateList{1}}}}, {"number", 2.5}});
  StateDict state{{"tensor", nullptr}, {"dict", StateDict()}, {"number", 1}};
  const auto result = LoadFrom(plan, state);
  ASSERT_OK(result.status());
  EXPECT_TRUE(BitEqual(TensorAt(state, "tensor"), torch::ones(2)));
  EXPECT_EQ(*(*Dict(state, "dict").Find("a")->If<StateList>())[0].AsInt(), 1);
  EXPECT_EQ(*state["number"].AsDouble(), 2.5);
  EXPECT_TRUE(result->remainder.empty());
}

TEST(LoadPerRank, WhatIsNotAskedForNeedsNoRule) {
  const auto plan = SavedBy(
      {{{"position", 10}, {"all", Replicated(1)}}, {{"position", 20}, {"all", Replicated(1)}}});
  StateDict less{{"all", 0}};
  const auto result = LoadFrom(plan, less, {}, {0, 3});
  ASSERT_OK(result.status());
  EXPECT_THAT(result->report.other_ranks, ElementsAre("position"));
  EXPECT_TRUE(result->remainder.empty());
}

TEST(LoadPerRank, EveryRankSeesTheOrderOfTheState) {
  const auto plan = SavedBy({{{"own", 1}, {"all", Replicated(1)}, {"more", 2}},
                             {{"own", 3}, {"all", Replicated(1)}, {"more", 4}}});
  for (const uint32_t rank : {0u, 1u}) {
    const auto raw = LoadRaw(*plan, {rank, 2}, {});
    ASSERT_OK(raw.status());
    EXPECT_THAT(KeysOf(*raw), ElementsAre("own", "all", "more"));
  }
}

// Each rank may have another kind of value under one key: that is no damage.
TEST(LoadPerRank, RanksMayDisagreeAboutTheKind) {
  const std::vector<StateDict> states = {
      {{"own", 1}, {"all", Replicated(1)}},
      {{"own", StateDict{{"a", 2}, {"b", StateList{3}}}}, {"all", Replicated(1)}},
      {{"own", StateList{4}}, {"all", Replicated(1)}},
      {{"own", StateDict()}, {"all", Replicated(1)}}};
  std::vector<StateDict> reversed(states.rbegin(), states.rend());
  for (const auto& plan : {SavedBy(states), SavedBy(reversed)}) {
    StateDict less{{"all", 0}};
    const auto result = LoadFrom(plan, less, {}, {0, 3});
    ASSERT_OK(result.status());
    EXPECT_EQ(*less["all"].AsInt(), 1);
    EXPECT_THAT(result->report.other_ranks, ElementsAre("own"));
    EXPECT_TRUE(result->remainder.empty());
    for (const StateValue& wanted :
         {StateValue(0), StateValue(torch::ones(2)), StateValue(StateDict{{"a", 0}}),
          StateValue(torch::nn::Linear(1, 1))}) {
      StateDict state{{"own", wanted}};
      const absl::Status status = LoadFrom(plan, state, {}, {0, 3}).status();
      EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
      EXPECT_THAT(std::string(status.message()), HasSubstr("per_rank_source"));
    }
    EXPECT_TRUE(absl::IsInvalidArgument(LoadRaw(*plan, {0, 3}, {}).status()));
  }
  LoadOptions rule;
  rule.per_rank_source = 1;
  const auto raw = LoadRaw(*SavedBy(states), {0, 3}, rule);
  ASSERT_OK(raw.status());
  EXPECT_EQ(*Dict(*raw, "own").Find("a")->AsInt(), 2);
}

class Counter : public Stateful {
 public:
  explicit Counter(int64_t n) : n_(n), t_(torch::full({2}, static_cast<double>(n))) {}
  absl::StatusOr<StateDict> SaveState() override { return StateDict{{"n", n_}, {"t", t_}}; }
  absl::Status LoadState(const StateDict& state) override {
    const StateValue* n = state.Find("n");
    if (n == nullptr || !n->AsInt().ok()) return absl::InvalidArgumentError("no n");
    n_ = *n->AsInt();
    t_ = TensorAt(state, "t");
    return absl::OkStatus();
  }
  int64_t n_;
  at::Tensor t_;
};

TEST(LoadStateful, IsGivenWhatItSaved) {
  Counter saved(5);
  Counter fresh(0);
  StateDict state{{"list", StateList{fresh}}};
  ASSERT_OK(LoadFrom(Saved({{"list", StateList{saved}}}), state).status());
  EXPECT_EQ(fresh.n_, 5);
  EXPECT_TRUE(BitEqual(fresh.t_, saved.t_));
  StateDict other{{"list", StateList{fresh}}};
  const absl::Status status =
      LoadFrom(Saved({{"list", StateList{StateDict{{"m", 1}}}}}), other).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("list.0: no n"));
}

}  // namespace
}  // namespace ckpt::testing
