// What a state becomes when it is saved: keys, placements, aliases, filters, refusals.
#include "common/key.h"
#include "tests/torch/torch_test.h"

namespace ckpt::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> PrintedKeys(const Part& part) {
  std::vector<std::string> keys;
  for (const PartLeaf& leaf : part.leaves) keys.push_back(PrintKey(leaf.key));
  return keys;
}

const PartLeaf* LeafAt(const Part& part, const std::string& printed) {
  for (const PartLeaf& leaf : part.leaves) {
    if (PrintKey(leaf.key) == printed) return &leaf;
  }
  ADD_FAILURE() << "no leaf " << printed;
  return nullptr;
}

TEST(SaveUnwrap, ModuleNamesAreOneSegmentEach) {
  auto model = SmallModel(1);
  const auto part = PartOf({{"model", model}});
  ASSERT_OK(part.status());
  EXPECT_THAT(PrintedKeys(*part),
              ElementsAre("model.0.weight", "model.0.bias", "model.1.weight", "model.1.bias",
                          "model.1.running_mean", "model.1.running_var",
                          "model.1.num_batches_tracked", "model.3.weight", "model.3.bias"));
  const v1::Key key = part->leaves[0].key.ToProto();
  ASSERT_EQ(key.segments_size(), 2);
  EXPECT_EQ(key.segments(1).name(), "0.weight");
}

TEST(SaveUnwrap, OptimizerIsLaidOutAsPythonDoes) {
  auto model = torch::nn::Linear(2, 1);
  torch::optim::Adam optimizer(model->parameters(), torch::optim::AdamOptions(0.25));
  model->forward(torch::ones({1, 2})).sum().backward();
  optimizer.step();
  const auto state = ToStateDict(optimizer);
  ASSERT_OK(state.status());
  EXPECT_THAT(KeysOf(*state), ElementsAre("state", "param_groups"));
  EXPECT_THAT(KeysOf(Dict(*state, "state")), ElementsAre("0", "1"));
  const StateDict& first = Dict(Dict(*state, "state"), 0);
  EXPECT_THAT(KeysOf(first), ElementsAre("step", "exp_avg", "exp_avg_sq"));
  EXPECT_TRUE(BitEqual(TensorAt(first, "step"), torch::tensor(1.0f)));
  const StateList& groups = *state->Find("param_groups")->If<StateList>();
  ASSERT_EQ(groups.size(), 1u);
  const StateDict& group = *groups[0].If<StateDict>();
  EXPECT_THAT(KeysOf(group),
              ElementsAre("lr", "betas", "eps", "weight_decay", "amsgrad", "maximize", "foreach",
                          "capturable", "differentiable", "fused", "params"));
  EXPECT_EQ(*group.Find("lr")->AsDouble(), 0.25);
  EXPECT_EQ(*group.Find("fused")->AsBool(), false);
  EXPECT_EQ(*(*group.Find("params")->If<StateList>())[1].AsInt(), 1);

  const auto part = PartOf({{"optimizer", optimizer}});
  ASSERT_OK(part.status());
  const v1::Key key = LeafAt(*part, "optimizer.state.0.exp_avg")->key.ToProto();
  EXPECT_TRUE(key.segments(2).has_number());
  const v1::Key beta = LeafAt(*part, "optimizer.param_groups.0.betas.1")->key.ToProto();
  EXPECT_TRUE(beta.segments(2).has_index() && beta.segments(4).has_index());
}

TEST(SaveUnwrap, AStepThatFloat32CannotHoldIsWrittenAsFloat64) {
  auto parameter = torch::ones({1}, torch::requires_grad());
  torch::optim::Adam optimizer(std::vector<at::Tensor>{parameter}, torch::optim::AdamOptions(0.1));
  parameter.sum().backward();
  optimizer.step();
  auto& state = static_cast<torch::optim::AdamParamState&>(*optimizer.state().begin()->second);
  state.step((int64_t{1} << 24) + 1);
  const auto dict = ToStateDict(optimizer);
  ASSERT_OK(dict.status());
  const at::Tensor step = TensorAt(Dict(Dict(*dict, "state"), 0), "step");
  EXPECT_EQ(step.item<double>(), 16777217.0);
}

TEST(SaveUnwrap, UnknownOptimizersAreUnimplemented) {
  auto parameter = torch::ones({1}, torch::requires_grad());
  torch::optim::LBFGS optimizer(std::vector<at::Tensor>{parameter});
  EXPECT_TRUE(absl::IsUnimplemented(PartOf({{"optimizer", optimizer}}).status()));
}

TEST(SavePlacement, DefaultsFollowTheKindAndMarkersWin) {
  auto model = torch::nn::Linear(2, 2);
  torch::optim::SGD optimizer(model->parameters(), torch::optim::SGDOptions(0.1));
  const auto part = PartOf({{"model", model},
                            {"optimizer", optimizer},
                            {"iteration", 3},
                            {"tensor", torch::ones(2)},
                            {"equal", Replicated(StateDict{{"a", 1}, {"b", PerRank(2)}})},
                            {"own", PerRank(torch::nn::Linear(1, 1))},
                            {"shard", Sharded{torch::ones({1, 2}), {4, 2}, {3, 0}}}});
  ASSERT_OK(part.status());
  const auto placement = [&](const std::string& key) {
    return LeafAt(*part, key)->placement;
  };
  EXPECT_EQ(placement("model.weight"), v1::PLACEMENT_REPLICATED);
  EXPECT_EQ(placement("optimizer.state"), v1::PLACEMENT_REPLICATED);
  EXPECT_EQ(placement("optimizer.param_groups.0.lr"), v1::PLACEMENT_REPLICATED);
  EXPECT_EQ(placement("iteration"), v1::PLACEMENT_PER_RANK);
  EXPECT_EQ(placement("tensor"), v1::PLACEMENT_PER_RANK);
  EXPECT_EQ(placement("equal.a"), v1::PLACEMENT_REPLICATED);
  EXPECT_EQ(placement("equal.b"), v1::PLACEMENT_PER_RANK);
  EXPECT_EQ(placement("own.weight"), v1::PLACEMENT_PER_RANK);
  EXPECT_EQ(placement("shard"), v1::PLACEMENT_SHARDED);
}

TEST(SavePlacement, OnlyWhatTheOptimizerStepChangesIsCopiedLate) {
  auto model = torch::nn::BatchNorm1d(2);
  const auto part = PartOf({{"model", model}, {"random", torch::ones(2)}});
  ASSERT_OK(part.status());
  EXPECT_FALSE(LeafAt(*part, "model.weight")->copy_early);
  EXPECT_TRUE(LeafAt(*part, "model.running_mean")->copy_early);
  EXPECT_TRUE(LeafAt(*part, "random")->copy_early);
}

TEST(SaveTied, SharedStorageIsStoredOnce) {
  auto tensor = torch::arange(6.0f).view({2, 3});
  const auto part = PartOf(
      {{"a", tensor}, {"b", tensor.view({2, 3})}, {"c", tensor[0]}, {"d", Replicated(tensor)}});
  ASSERT_OK(part.status());
  EXPECT_EQ(LeafAt(*part, "b")->alias_of_plus_one, 1u);
  // Another shape or placement is another tensor.
  EXPECT_EQ(LeafAt(*part, "c")->alias_of_plus_one, 0u);
  EXPECT_EQ(LeafAt(*part, "d")->alias_of_plus_one, 0u);
}

TEST(SaveTied, EmptyTensorsAreNotTakenForOne) {
  const auto part = PartOf({{"a", torch::empty({0, 3})}, {"b", torch::empty({0, 3})}});
  ASSERT_OK(part.status());
  EXPECT_EQ(LeafAt(*part, "b")->alias_of_plus_one, 0u);
}

// A rank that holds nothing of two tensors may well say so with one and the same empty tensor.
TEST(SaveTied, EmptyBoxesOfOneStorageAreNotTakenForOne) {
  const auto nothing = torch::empty({0, 2});
  const auto one = torch::ones({4, 2});
  const auto two = torch::full({4, 2}, 2.0f);
  const auto plan =
      SavedBy({{{"a", Sharded{nothing, {4, 2}, {0, 0}}}, {"b", Sharded{nothing, {4, 2}, {0, 0}}}},
               {{"a", Sharded{one, {4, 2}, {0, 0}}}, {"b", Sharded{two, {4, 2}, {0, 0}}}}});
  ASSERT_NE(plan, nullptr);
  StateDict state{{"a", torch::zeros({4, 2})}, {"b", torch::zeros({4, 2})}};
  ASSERT_OK(LoadFrom(plan, state).status());
  EXPECT_TRUE(BitEqual(TensorAt(state, "a"), one));
  EXPECT_TRUE(BitEqual(TensorAt(state, "b"), two));
}

TEST(SaveRefusals, SayWhatAndWhere) {
  const auto error = [](StateValue value) {
    return PartOf({{"outer", StateDict{{"inner", std::move(value)}}}}).status();
  };
  EXPECT_TRUE(absl::IsInvalidArgument(error(torch::ones(2, torch::kComplexDouble))));
  EXPECT_TRUE(absl::IsInvalidArgument(error(torch::ones({2, 2}).to_sparse())));
  EXPECT_TRUE(absl::IsInvalidArgument(error(std::string("\xff\xfe"))));
  EXPECT_TRUE(absl::IsInvalidArgument(error(Sharded{torch::ones({3}), {4}, {2}})));
  EXPECT_TRUE(absl::IsInvalidArgument(error(Sharded{torch::ones({2}), {4}, {0}, 2, 2})));
  EXPECT_TRUE(absl::IsInvalidArgument(error(Sharded{torch::ones({2}), {4, 1}, {0, 0}})));
  EXPECT_THAT(std::string(error(std::string("\xff")).message()), HasSubstr("outer.inner"));
  EXPECT_THAT(std::string(error(Sharded{torch::ones({3}), {4}, {2}}).message()),
              HasSubstr("outer.inner"));
}

// One rank of two that step boxes of two parameters: rows of `a`, and `b` on rank 0 alone.
struct ShardedRank {
  explicit ShardedRank(int64_t rank)
      : a(torch::ones({2, 3}, torch::requires_grad())),
        b(torch::ones({rank == 0 ? 3 : 0}, torch::requires_grad())),
        optimizer({a, b}, torch::optim::AdamWOptions(0.1)),
        box_of_a{a, {4, 3}, {2 * rank, 0}},
        box_of_b{b, {3}, {3 * rank}} {
    for (at::Tensor* parameter : {&a, &b}) parameter->mutable_grad() = torch::ones_like(*parameter);
    optimizer.step();
    ShardedOptimizer sharded{
        &optimizer, {{0, {4, 3}, {2 * rank, 0}}, {1, {3}, {3 * rank}}}, {{0, 1}}};
    state = {{"model", StateDict{{"a", box_of_a}, {"b", box_of_b}}}, {"optimizer", sharded}};
  }
  at::Tensor a;
  at::Tensor b;
  torch::optim::AdamW optimizer;
  Sharded box_of_a;
  Sharded box_of_b;
  StateDict state;
};

TEST(Prune, AShardedOptimizerAlsoWhereARankHoldsNothing) {
  ShardedRank zero(0);
  ShardedRank one(1);
  const auto entries_without = [&](const std::string& excluded) {
    TorchSaveOptions options;
    options.selection.add_exclude(excluded);
    options.prune_optimizer = true;
    const auto raw = LoadRaw(*SavedBy({zero.state, one.state}, options), {0, 2}, {});
    EXPECT_OK(raw.status());
    if (!raw.ok()) return std::vector<std::string>();
    EXPECT_EQ(Dict(*raw, "optimizer").Find("param_groups")->If<StateList>()->size(), 1u);
    return KeysOf(Dict(Dict(*raw, "optimizer"), "state"));
  };
  EXPECT_THAT(entries_without("nothing"), ElementsAre("0", "1"));
  EXPECT_THAT(entries_without("model.b"), ElementsAre("0"));
  EXPECT_THAT(entries_without("model.a"), ElementsAre("1"));
  EXPECT_THAT(entries_without("model.*"), ::testing::IsEmpty());
}

TEST(Prune, OnlyParametersOfTheStateOfWhichNoNameIsLeft) {
  auto model = torch::nn::Linear(2, 2);
  torch::optim::SGD optimizer(model->parameters(), torch::optim::SGDOptions(0.1).momentum(0.9));
  model->forward(torch::ones({1, 2})).sum().backward();
  optimizer.step();
  const auto keys = [&](const StateDict& state, const std::string& excluded) {
    TorchSaveOptions options;
    options.selection.add_exclude(excluded);
    options.prune_optimizer = true;
    const auto part = PartOf(state, options);
    EXPECT_OK(part.status());
    return part.ok() ? PrintedKeys(*part) : std::vector<std::string>();
  };
  using ::testing::Contains;
  using ::testing::Not;
  const std::string moment = "optimizer.state.0.momentum_buffer";
  // The optimizer alone: nothing was filtered out.
  EXPECT_THAT(keys({{"optimizer", optimizer}}, "model.weight"), Contains(moment));
  EXPECT_THAT(keys({{"model", model}, {"optimizer", optimizer}}, "model.weight"),
              Not(Contains(moment)));
  // Another name of it is saved.
  EXPECT_THAT(keys({{"model", model}, {"optimizer", optimizer}, {"again", model}}, "model.weight"),
              Contains(moment));
}

TEST(StateDictTest, KeepsOrderAndFindsManyKeys) {
  StateDict dict;
  for (int i = 0; i < 100; ++i) dict["key" + std::to_string(i)] = i;
  dict["key50"] = -1;
  EXPECT_EQ(dict.size(), 100u);
  EXPECT_EQ(*dict.Find("key50")->AsInt(), -1);
  EXPECT_TRUE(dict.Erase("key50"));
  EXPECT_FALSE(dict.Erase("key50"));
  EXPECT_EQ(dict.Find("key50"), nullptr);
  EXPECT_EQ(*dict.Find("key99")->AsInt(), 99);
  EXPECT_EQ(KeysOf(dict)[50], "key51");
  for (int i = 0; i < 90; ++i) dict.Erase("key" + std::to_string(i));
  EXPECT_EQ(dict.size(), 10u);
  dict["last"] = true;
  EXPECT_EQ(*dict.Find("key95")->AsInt(), 95);
  EXPECT_EQ(*dict.Find("last")->AsBool(), true);
  // The name "1" and the number 1 are two keys.
  StateDict numbers{{"1", "name"}, {1, "number"}};
  EXPECT_EQ(*numbers.Find(1)->AsString(), "number");
}

}  // namespace
}  // namespace ckpt::testing
