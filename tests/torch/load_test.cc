// What a checkpoint becomes when it is loaded: in place, remainder, strict and not, refusals.
#include <limits>

#include "absl/strings/str_cat.h"
#include "tests/torch/torch_test.h"

namespace ckpt::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(LoadInPlace, TensorsKeepTheirAddresses) {
  auto saved = SmallModel(1);
  auto model = SmallModel(2);
  std::vector<void*> addresses;
  for (const auto& parameter : model->parameters()) addresses.push_back(parameter.data_ptr());
  StateDict state{{"model", model}, {"iteration", 0}};
  const auto result = LoadFrom(Saved({{"model", saved}, {"iteration", 41}}), state);
  ASSERT_OK(result.status());
  for (size_t i = 0; i < addresses.size(); ++i) {
    EXPECT_EQ(model->parameters()[i].data_ptr(), addresses[i]);
    EXPECT_TRUE(BitEqual(model->parameters()[i], saved->parameters()[i]));
  }
  for (size_t i = 0; i < model->buffers().size(); ++i) {
    EXPECT_TRUE(BitEqual(model->buffers()[i], saved->buffers()[i]));
  }
  EXPECT_TRUE(model->parameters()[0].requires_grad());
  EXPECT_EQ(*state["iteration"].AsInt(), 41);
  EXPECT_TRUE(result->remainder.empty());
  EXPECT_EQ(result->step(), 7u);
  EXPECT_EQ(result->report.restored.size(), 10u);
  EXPECT_EQ(result->report.restored.front(), "model.0.weight");
}

TEST(LoadInPlace, AutogradIsTold) {
  auto tensor = torch::zeros({2}, torch::requires_grad());
  const auto version = tensor._version();
  StateDict state{{"t", tensor}};
  ASSERT_OK(LoadFrom(Saved({{"t", torch::ones({2})}}), state).status());
  EXPECT_GT(tensor._version(), version);
}

TEST(LoadInPlace, NestedDictionariesAndLists) {
  auto make = [](uint64_t seed) {
    torch::manual_seed(seed);
    return std::make_pair(torch::nn::Linear(2, 3), torch::nn::Linear(3, 1));
  };
  auto [a, b] = make(1);
  auto [c, d] = make(2);
  const auto nest = [](auto& one, auto& two, int64_t n, double x) {
    return StateDict{{"deep", StateDict{{"list", StateList{one, StateDict{{"two", two}}, n}}}},
                     {"x", x}};
  };
  StateDict state = nest(c, d, 0, 0);
  const auto result = LoadFrom(Saved(nest(a, b, 5, -0.0)), state);
  ASSERT_OK(result.status());
  EXPECT_TRUE(BitEqual(a->weight, c->weight));
  EXPECT_TRUE(BitEqual(b->bias, d->bias));
  const StateList& list = *Dict(state, "deep").Find("list")->If<StateList>();
  EXPECT_EQ(*list[2].AsInt(), 5);
  EXPECT_TRUE(std::signbit(*state["x"].AsDouble()));
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

TEST(LoadInPlace, StridedSourcesAreSavedAsTheyLook) {
  auto base = torch::arange(24.0f).view({2, 3, 4});
  const std::vector<at::Tensor> views = {
      base.permute({2, 0, 1}), torch::arange(10.0f).slice(0, 1, 9, 3),
      torch::arange(3.0f).expand({4, 3}), torch::arange(6.0f).view({2, 3}).select(1, 1),
      torch::arange(4.0f).as_strided({2, 2}, {1, 1})};
  StateList list;
  for (const at::Tensor& view : views) list.Add(view);
  const auto raw = LoadRaw(*Saved({{"views", list}}), {}, {});
  ASSERT_OK(raw.status());
  const StateList& loaded = *raw->Find("views")->If<StateList>();
  for (size_t i = 0; i < views.size(); ++i) {
    EXPECT_TRUE(BitEqual(*loaded[i].AsTensor(), views[i])) << i;
  }
}

TEST(LoadRemainder, IsWhatNobodyAskedForInCheckpointOrder) {
  auto model = torch::nn::Linear(2, 2);
  const auto plan = Saved({{"z", 1},
                           {"model", model},
                           {"extra", StateDict{{"t", torch::ones(3)}, {"s", "text"}}},
                           {"a", StateList{1, 2}},
                           {"empty", StateDict()},
                           {"asked", StateDict{{"x", 1}, {"y", 2}}}});
  auto other = torch::nn::Linear(2, 2);
  StateDict state{{"asked", StateDict{{"x", 0}}}, {"model", other}};
  const auto result = LoadFrom(plan, state);
  ASSERT_OK(result.status());
  EXPECT_THAT(KeysOf(result->remainder), ElementsAre("z", "extra", "a", "empty", "asked"));
  EXPECT_THAT(KeysOf(Dict(result->remainder, "asked")), ElementsAre("y"));
  EXPECT_EQ(*Dict(result->remainder, "extra").Find("s")->AsString(), "text");
  // The tensor has not been read, and can be.
  EXPECT_EQ(plan->elements_read(), 6u);
  const auto tensor = Dict(result->remainder, "extra").Find("t")->AsTensor();
  ASSERT_OK(tensor.status());
  EXPECT_TRUE(BitEqual(*tensor, torch::ones(3)));

  LoadOptions read;
  read.remainder = LoadOptions::Remainder::kRead;
  const auto whole = LoadFrom(plan, state, read);
  ASSERT_OK(whole.status());
  EXPECT_TRUE(BitEqual(TensorAt(Dict(whole->remainder, "extra"), "t"), torch::ones(3)));
  read.remainder = LoadOptions::Remainder::kDrop;
  const auto none = LoadFrom(plan, state, read);
  ASSERT_OK(none.status());
  EXPECT_TRUE(none->remainder.empty());
}

TEST(LoadRaw, GivesTheWholeDictionaryBack) {
  const std::string long_text(10000, 'x');
  const StateDict saved{{"null", nullptr},
                        {"bool", true},
                        {"int", std::numeric_limits<int64_t>::min()},
                        {"nan", std::numeric_limits<double>::quiet_NaN()},
                        {"inf", -std::numeric_limits<double>::infinity()},
                        {"text", "\xc3\xa9.\xe2\x82\xac/"},
                        {"bytes", Bytes{std::string("\0\xff", 2)}},
                        {"long", long_text},
                        {"blob", Bytes{std::string(5000, '\xfe')}},
                        {"key with . and /", StateDict{{"\xe6\xbc\xa2", 1}, {5, 2}}},
                        {"list", StateList{1, 2.0, "three", StateList(), StateDict()}}};
  const auto raw = LoadRaw(*Saved(saved), {}, {});
  ASSERT_OK(raw.status());
  EXPECT_EQ(KeysOf(*raw), KeysOf(saved));
  EXPECT_TRUE(raw->Find("null")->is_null());
  EXPECT_EQ(*raw->Find("bool")->AsBool(), true);
  EXPECT_EQ(*raw->Find("int")->AsInt(), std::numeric_limits<int64_t>::min());
  EXPECT_TRUE(std::isnan(*raw->Find("nan")->AsDouble()));
  EXPECT_EQ(*raw->Find("inf")->AsDouble(), -std::numeric_limits<double>::infinity());
  EXPECT_EQ(*raw->Find("text")->AsString(), "\xc3\xa9.\xe2\x82\xac/");
  EXPECT_EQ(raw->Find("bytes")->If<Bytes>()->data, std::string("\0\xff", 2));
  EXPECT_EQ(*raw->Find("long")->AsString(), long_text);
  EXPECT_EQ(raw->Find("blob")->If<Bytes>()->data, std::string(5000, '\xfe'));
  EXPECT_EQ(*Dict(*raw, "key with . and /").Find(5)->AsInt(), 2);
  const StateList& list = *raw->Find("list")->If<StateList>();
  ASSERT_EQ(list.size(), 5u);
  EXPECT_NE(list[1].If<double>(), nullptr);
  EXPECT_NE(list[3].If<StateList>(), nullptr);
  EXPECT_NE(list[4].If<StateDict>(), nullptr);
}

TEST(LoadRaw, EmptyStateComesBackEmpty) {
  const auto raw = LoadRaw(*Saved({}), {}, {});
  ASSERT_OK(raw.status());
  EXPECT_TRUE(raw->empty());
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

TEST(LoadStrict, MissingKeysAreAllNamedWithTheNearest) {
  auto tensor = torch::zeros(2);
  StateDict state{
      {"modl", torch::nn::Linear(1, 1)}, {"step", 0}, {"nothing_like_it", 1}, {"t", tensor}};
  const auto plan =
      Saved({{"model", torch::nn::Linear(1, 1)}, {"steps", 3}, {"t", torch::ones(2)}});
  const absl::Status status = LoadFrom(plan, state).status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  const std::string text(status.message());
  EXPECT_THAT(text, HasSubstr("modl (nearest: model)"));
  EXPECT_THAT(text, HasSubstr("step (nearest: steps)"));
  EXPECT_THAT(text, HasSubstr("nothing_like_it"));
  EXPECT_THAT(text, HasSubstr("test/run@7"));
  EXPECT_TRUE(BitEqual(tensor, torch::zeros(2)));
  EXPECT_EQ(*state["step"].AsInt(), 0);
}

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

TEST(LoadStrict, ParameterNamesMustMatchBothWays) {
  auto with_bias = torch::nn::Linear(2, 2);
  auto without = torch::nn::Linear(torch::nn::LinearOptions(2, 2).bias(false));
  const at::Tensor before = without->weight.detach().clone();
  StateDict narrow{{"model", without}};
  const absl::Status unexpected = LoadFrom(Saved({{"model", with_bias}}), narrow).status();
  EXPECT_TRUE(absl::IsInvalidArgument(unexpected)) << unexpected;
  EXPECT_THAT(std::string(unexpected.message()),
              HasSubstr("unexpected in the checkpoint (1): model.bias"));
  EXPECT_TRUE(BitEqual(without->weight, before));
  StateDict wide{{"model", with_bias}};
  const absl::Status missing = LoadFrom(Saved({{"model", without}}), wide).status();
  EXPECT_TRUE(absl::IsInvalidArgument(missing)) << missing;
  EXPECT_THAT(std::string(missing.message()),
              HasSubstr("missing from the checkpoint (1): model.bias"));
}

TEST(LoadNonStrict, TakesWhatMatchesAndReports) {
  auto saved = torch::nn::Linear(2, 2);
  auto model = torch::nn::Linear(torch::nn::LinearOptions(2, 2).bias(false));
  auto other = torch::nn::Linear(3, 1);
  const at::Tensor bias = other->bias.detach().clone();
  StateDict state{{"model", model}, {"absent", 17}, {"shape", other}};
  LoadOptions options;
  options.strict = false;
  options.mismatch = LoadOptions::Mismatch::kSkip;
  const auto result =
      LoadFrom(Saved({{"model", saved},
                      {"shape", torch::nn::Linear(torch::nn::LinearOptions(2, 1).bias(false))}}),
               state, options);
  ASSERT_OK(result.status());
  EXPECT_TRUE(BitEqual(model->weight, saved->weight));
  EXPECT_TRUE(BitEqual(other->bias, bias));
  EXPECT_EQ(*state["absent"].AsInt(), 17);
  EXPECT_THAT(result->report.restored, ElementsAre("model.weight"));
  EXPECT_THAT(result->report.missing, ElementsAre("absent", "shape.bias"));
  EXPECT_THAT(result->report.unexpected, ElementsAre("model.bias"));
  EXPECT_THAT(result->report.mismatched,
              ElementsAre("shape.weight: stored as F32 [1, 2], expected F32 [1, 3]"));
  EXPECT_TRUE(result->remainder.empty());
}

TEST(LoadMismatch, IsAnErrorASkipOrACast) {
  const auto plan = Saved({{"a", torch::full({2}, 1.5f)}, {"b", torch::ones(3)}});
  auto a = torch::zeros({2}, torch::kFloat64);
  auto b = torch::zeros(3);
  StateDict state{{"a", a}, {"b", b}};
  LoadOptions options;
  for (const bool strict : {true, false}) {
    options.strict = strict;
    const absl::Status status = LoadFrom(plan, state, options).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("a: stored as F32 [2], expected F64 [2]"));
    EXPECT_TRUE(BitEqual(b, torch::zeros(3)));  // nothing was touched
  }
  options.mismatch = LoadOptions::Mismatch::kCast;
  ASSERT_OK(LoadFrom(plan, state, options).status());
  EXPECT_TRUE(BitEqual(a, torch::full({2}, 1.5, torch::kFloat64)));
  StateDict other_shape{{"b", torch::zeros(4)}};
  EXPECT_TRUE(absl::IsInvalidArgument(LoadFrom(plan, other_shape, options).status()));
}

TEST(LoadErrors, AFailedReadIsReportedAndValuesStay) {
  const auto plan = Saved({{"n", 5}, {"t", torch::ones(3)}});
  StateDict state{{"n", 1}, {"t", torch::zeros(3)}};
  plan->FailNextRead(absl::DataLossError("block 0 of t"));
  EXPECT_TRUE(absl::IsDataLoss(LoadFrom(plan, state).status()));
  EXPECT_EQ(*state["n"].AsInt(), 1);
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

TEST(LoadTied, SharesAgainInAModelThatShares) {
  struct Tied : torch::nn::Module {
    Tied() : embedding(torch::randn({4, 3})) {
      register_parameter("embedding", embedding);
      register_parameter("head", embedding);
    }
    at::Tensor embedding;
  };
  auto saved = std::make_shared<Tied>();
  auto model = std::make_shared<Tied>();
  const auto plan = Saved({{"model", saved}});
  StateDict state{{"model", model}};
  ASSERT_OK(LoadFrom(plan, state).status());
  EXPECT_EQ(model->parameters()[0].data_ptr(), model->parameters()[1].data_ptr());
  EXPECT_TRUE(BitEqual(model->embedding, saved->embedding));
  EXPECT_EQ(plan->elements_read(), 12u);  // once
  const auto raw = LoadRaw(*plan, {}, {});
  ASSERT_OK(raw.status());
  EXPECT_EQ(TensorAt(Dict(*raw, "model"), "embedding").data_ptr(),
            TensorAt(Dict(*raw, "model"), "head").data_ptr());
}

TEST(LoadPerRank, OwnValuesOnTheSameWorldAndARuleOtherwise) {
  const auto plan = SavedBy(
      {{{"position", 10}, {"all", Replicated(1)}}, {{"position", 20}, {"all", Replicated(1)}}});
  StateDict state{{"position", 0}};
  ASSERT_OK(LoadFrom(plan, state, {}, {1, 2}).status());
  EXPECT_EQ(*state["position"].AsInt(), 20);
  const absl::Status status = LoadFrom(plan, state, {}, {0, 3}).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("per_rank_source"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("position"));
  LoadOptions rule;
  rule.per_rank_source = 0;
  ASSERT_OK(LoadFrom(plan, state, rule, {2, 3}).status());
  EXPECT_EQ(*state["position"].AsInt(), 10);
  rule.per_rank_source = 2;
  EXPECT_TRUE(absl::IsInvalidArgument(LoadFrom(plan, state, rule, {2, 3}).status()));
  // Not asked for: no rule needed, and the report says what stayed out.
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

TEST(LoadObject, OneBareModuleFromUnderAKey) {
  auto saved = torch::nn::Linear(2, 2);
  auto model = torch::nn::Linear(2, 2);
  const auto plan = Saved({{"nets", StateDict{{"a", saved}}}, {"x", 1}});
  StateValue object(model);
  const auto result = LoadInto(plan, {}, object, {"nets", "a"}, {});
  ASSERT_OK(result.status());
  EXPECT_TRUE(BitEqual(model->weight, saved->weight));
  EXPECT_THAT(KeysOf(result->remainder), ElementsAre("x"));
  const absl::Status status = LoadInto(plan, {}, object, {"nets", "b"}, {}).status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  // The state of a module alone is a state as well.
  const auto bare = ToStateDict(saved);
  ASSERT_OK(bare.status());
  ASSERT_OK(LoadInto(Saved(*bare), {}, object, {}, {}).status());
}

struct World {
  int from;
  int to;
  int64_t rows;
  int dim;
};
class LoadReshard : public ::testing::TestWithParam<World> {};

// Rows [begin, end) of rank `rank`: uneven, and empty for the last ranks when there are few.
Sharded ShardOf(const at::Tensor& whole, int dim, int rank, int ranks) {
  const int64_t size = whole.size(dim);
  const int64_t each = (size + ranks - 1) / ranks;
  const int64_t begin = std::min(size, each * rank);
  const int64_t end = std::min(size, begin + each);
  std::vector<int64_t> offset(static_cast<size_t>(whole.dim()), 0);
  offset[static_cast<size_t>(dim)] = begin;
  return {whole.slice(dim, begin, end).clone(), whole.sizes().vec(), offset};
}

TEST_P(LoadReshard, EqualsTheWholeTensor) {
  const World world = GetParam();
  torch::manual_seed(4);
  const at::Tensor whole =
      world.dim == 0 ? torch::randn({world.rows, 3}) : torch::randn({2, world.rows, 3});
  std::vector<StateDict> states;
  for (int rank = 0; rank < world.from; ++rank) {
    states.push_back({{"t", ShardOf(whole, world.dim, rank, world.from)}});
  }
  const auto plan = SavedBy(states);
  for (int rank = 0; rank < world.to; ++rank) {
    Sharded shard = ShardOf(whole, world.dim, rank, world.to);
    const at::Tensor wanted = shard.local.clone();
    shard.local.zero_();
    StateDict state{{"t", shard}};
    ASSERT_OK(
        LoadFrom(plan, state, {}, {static_cast<uint32_t>(rank), static_cast<uint32_t>(world.to)})
            .status());
    EXPECT_TRUE(BitEqual(shard.local, wanted)) << rank;
  }
  StateDict full{{"t", torch::zeros_like(whole)}};
  ASSERT_OK(LoadFrom(plan, full).status());
  EXPECT_TRUE(BitEqual(TensorAt(full, "t"), whole));
}

std::vector<World> Worlds() {
  std::vector<World> worlds;
  for (const int from : {1, 2, 3, 4, 8}) {
    for (const int to : {1, 2, 3, 4, 8}) worlds.push_back({from, to, 5, (from + to) % 2});
  }
  worlds.push_back({4, 3, 13, 1});
  worlds.push_back({2, 4, 16, 0});
  return worlds;
}
INSTANTIATE_TEST_SUITE_P(Worlds, LoadReshard, ::testing::ValuesIn(Worlds()), [](const auto& info) {
  const World& world = info.param;
  return std::to_string(world.from) + "to" + std::to_string(world.to) + "rows" +
         std::to_string(world.rows) + "dim" + std::to_string(world.dim);
});

}  // namespace
}  // namespace ckpt::testing
