// What of a state is not saved: predicates by top-level key, and declarative filters.
#include "common/key.h"
#include "tests/conformance/conformance_test.h"

namespace ckpt::testing {
namespace {

bool All(const std::string&, const StateValue&) { return true; }
bool None(const std::string&, const StateValue&) { return false; }
bool Weights(const std::string& key, const StateValue&) {
  return key.find("weight") != std::string::npos;
}

TEST_F(Conformance, filter_unknown_key) {
  auto checkpointer = Connect();
  TorchSaveOptions options;
  options.filters = {{"modle", All}, {"optimiser", All}, {"iteration", All}};
  const absl::Status status = checkpointer->Save(1, {{"iteration", 1}}, options).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("\"modle\", \"optimiser\""));
  EXPECT_THAT(std::string(status.message()), Not(HasSubstr("\"iteration\"")));
  // The same for exact keys of a selection.
  TorchSaveOptions exact;
  *exact.selection.add_keys() = MakeKey({"model", "wieght"});
  *exact.selection.add_keys() = MakeKey({"nothing"});
  const absl::Status inexact =
      checkpointer->Save(1, {{"model", torch::nn::Linear(2, 2)}}, exact).status();
  EXPECT_TRUE(absl::IsInvalidArgument(inexact)) << inexact;
  EXPECT_THAT(std::string(inexact.message()), HasSubstr("model.wieght (nearest: model.weight)"));
  EXPECT_THAT(std::string(inexact.message()), HasSubstr("nothing"));
}

TEST_F(Conformance, filter_first_level) {
  auto model = torch::nn::Linear(2, 2);
  torch::optim::SGD optimizer(model->parameters(), torch::optim::SGDOptions(0.1));
  std::vector<std::string> seen;
  const auto record = [&](const std::string& key, const StateValue& value) {
    seen.push_back(key + " " + std::string(value.KindName()));
    return key != "bias" && key != "a";
  };
  TorchSaveOptions options;
  options.filters = {{"model", record}, {"optimizer", record}, {"dict", record}, {"plain", record}};
  ASSERT_OK(Save(1,
                 {{"model", model},
                  {"optimizer", optimizer},
                  {"dict", StateDict{{"a", 1}, {"b", StateDict{{"a", 2}}}}},
                  {"plain", 5}},
                 options));
  EXPECT_THAT(seen, ElementsAre("weight a tensor", "bias a tensor", "state a dictionary",
                                "param_groups a list", "a an integer", "b a dictionary"));
  const auto raw = LoadAll(1);
  ASSERT_OK(raw.status());
  EXPECT_THAT(KeysOf(Dict(*raw, "model")), ElementsAre("weight"));
  EXPECT_THAT(KeysOf(Dict(*raw, "dict")), ElementsAre("b"));
  EXPECT_EQ(*Dict(Dict(*raw, "dict"), "b").Find("a")->AsInt(), 2);  // the first level alone
  EXPECT_EQ(*raw->Find("plain")->AsInt(), 5);
}

TEST_F(Conformance, filter_keeps_rest) {
  auto model = SmallModel(1);
  torch::optim::AdamW optimizer(model->parameters(), torch::optim::AdamWOptions(0.1));
  TrainStep(model, optimizer, 1);
  TorchSaveOptions options;
  options.filters = {{"model", Weights}};
  ASSERT_OK(Save(1, {{"model", model}, {"optimizer", optimizer}, {"foo", 123}}, options));
  const auto raw = LoadAll(1);
  ASSERT_OK(raw.status());
  EXPECT_THAT(KeysOf(Dict(*raw, "model")), ElementsAre("0.weight", "1.weight", "3.weight"));
  EXPECT_EQ(Dict(Dict(*raw, "optimizer"), "state").size(), 6u);  // of biases too
  EXPECT_EQ(*raw->Find("foo")->AsInt(), 123);
}

TEST_F(Conformance, filter_rejects_all) {
  TorchSaveOptions options;
  options.filters = {{"model", None}};
  ASSERT_OK(Save(1, {{"model", torch::nn::Linear(2, 2)}, {"x", 1}}, options));
  TorchSaveOptions declared;
  declared.selection.add_exclude("model.**");
  ASSERT_OK(Save(2, {{"model", torch::nn::Linear(2, 2)}, {"x", 1}}, declared));
  for (const int step : {1, 2}) {
    const auto raw = LoadAll(step);
    ASSERT_OK(raw.status());
    EXPECT_THAT(KeysOf(*raw), ElementsAre("x"));
  }
}

// A replicated model, tied tensors, shards and values of each rank's own.
std::vector<StateDict> FourRanks() {
  std::vector<StateDict> states;
  auto model = SmallModel(1);
  for (uint32_t rank = 0; rank < 4; ++rank) {
    auto tied = torch::arange(8.0f);
    states.push_back({{"model", model},
                      {"tied", Replicated(StateDict{{"a", tied}, {"b", tied}})},
                      {"shards", StateDict{{"x", ShardOf(WholeTensor(6, 0), {rank, 4, 6, 0})},
                                           {"y", ShardOf(WholeTensor(5, 1), {rank, 4, 5, 1})}}},
                      {"own", static_cast<int64_t>(rank)}});
  }
  return states;
}

TEST_F(Conformance, filter_sharded) {
  TorchSaveOptions options;
  options.filters = {{"model", Weights}, {"shards", [](const std::string& key, const StateValue&) {
                                            return key == "y";
                                          }}};
  ASSERT_OK(Save(1, FourRanks(), options));
  LoadOptions rule;
  rule.per_rank_source = 2;
  const auto raw = LoadAll(1, rule);
  ASSERT_OK(raw.status());
  EXPECT_THAT(KeysOf(*raw), ElementsAre("model", "tied", "shards", "own"));
  EXPECT_THAT(KeysOf(Dict(*raw, "model")), ElementsAre("0.weight", "1.weight", "3.weight"));
  EXPECT_THAT(KeysOf(Dict(*raw, "shards")), ElementsAre("y"));
  EXPECT_TRUE(BitEqual(TensorAt(Dict(*raw, "shards"), "y"), WholeTensor(5, 1)));
  EXPECT_EQ(*raw->Find("own")->AsInt(), 2);
  const auto info = Info(1);
  ASSERT_OK(info.status());
  // Once: three weights of float32, eight tied floats, the shards of y.
  EXPECT_EQ(info->data_bytes(), (35 + 7 + 21 + 8 + 40) * sizeof(float));
}

// Each rank a process, which filters for itself.
TEST_F(Conformance, filter_sharded_between_processes) {
  const RankShape shape{.world_size = 4, .size = 6, .dim = 0};
  ASSERT_OK(RunRanks("save_filtered", 1, shape));
  LoadOptions rule;
  rule.per_rank_source = 2;
  const auto raw = LoadAll(1, rule);
  ASSERT_OK(raw.status());
  EXPECT_THAT(KeysOf(*raw), ElementsAre("model", "optimizer", "sharded", "position", "random"));
  EXPECT_THAT(KeysOf(Dict(*raw, "model")), ElementsAre("0.weight", "1.weight", "3.weight"));
  EXPECT_TRUE(BitEqual(TensorAt(*raw, "sharded"), WholeTensor(6, 0)));
  EXPECT_EQ(*raw->Find("position")->AsInt(), 20);
}

// Declarative ones as well, where a rank's box is smaller than the bound that the tensor exceeds.
TEST_F(Conformance, filter_sharded_by_selection) {
  TorchSaveOptions options;
  v1::LeafMatch& large = *options.selection.add_include_matching();
  large.set_top_level("shards");
  large.set_min_bytes(WholeTensor(6, 0).nbytes());
  options.selection.add_include("tied.b");
  ASSERT_OK(Save(1, FourRanks(), options));
  const auto raw = LoadAll(1);
  ASSERT_OK(raw.status());
  EXPECT_THAT(KeysOf(*raw), ElementsAre("tied", "shards"));
  EXPECT_THAT(KeysOf(Dict(*raw, "shards")), ElementsAre("x"));
  EXPECT_TRUE(BitEqual(TensorAt(Dict(*raw, "shards"), "x"), WholeTensor(6, 0)));
  // The name that held the bytes is gone, the bytes are not.
  EXPECT_THAT(KeysOf(Dict(*raw, "tied")), ElementsAre("b"));
  EXPECT_TRUE(BitEqual(TensorAt(Dict(*raw, "tied"), "b"), torch::arange(8.0f)));
}

// Ranks that filter differently are told, and which.
TEST_F(Conformance, filter_sharded_must_be_the_same_on_all_ranks) {
  auto model = SmallModel(1);
  auto one = Connect(0, 2);
  auto two = Connect(1, 2);
  TorchSaveOptions options;
  auto first = one->Save(1, {{"model", model}}, options);
  options.selection.add_exclude("**.bias");
  auto second = two->Save(1, {{"model", model}}, options);
  ASSERT_OK(first.status());
  ASSERT_OK(second.status());
  for (SaveHandle save : {*first, *second}) {
    const absl::Status end = save.AwaitCommitted(absl::Minutes(1));
    EXPECT_FALSE(end.ok());
    EXPECT_THAT(std::string(end.message()), HasSubstr("replicated"));
    EXPECT_THAT(std::string(end.message()), HasSubstr("rank"));
  }
}

TEST_F(Conformance, filter_deep) {
  auto model = SmallModel(1);
  torch::optim::AdamW optimizer(model->parameters(), torch::optim::AdamWOptions(0.1));
  TrainStep(model, optimizer, 1);
  const StateDict state{{"model", model},
                        {"optimizer", optimizer},
                        {"deep", StateDict{{"list", StateList{model, 7}}}}};
  const auto keys_of = [&](const v1::Selection& selection) {
    static uint64_t step = 0;
    TorchSaveOptions options;
    options.selection = selection;
    EXPECT_OK(Save(++step, state, options));
    StateDict nothing;
    LoadOptions lazy;
    const auto loaded = Load(step, nothing, lazy);
    EXPECT_OK(loaded.status());
    return loaded.ok() ? KeysOf(loaded->remainder) : std::vector<std::string>();
  };
  {
    v1::Selection selection;  // globs, at any depth
    selection.add_include("deep.list.0.*.weight");
    selection.add_include("optimizer.state.*.exp_avg");
    EXPECT_THAT(keys_of(selection), ElementsAre("optimizer", "deep"));
    const auto raw = LoadAll("latest");
    ASSERT_OK(raw.status());
    EXPECT_THAT(KeysOf(Dict(Dict(Dict(*raw, "optimizer"), "state"), 3)), ElementsAre("exp_avg"));
    EXPECT_THAT(KeysOf(*List(Dict(*raw, "deep"), "list")[0].If<StateDict>()),
                ElementsAre("0.weight", "1.weight", "3.weight"));
    // Tied with model.0.weight, which is not saved.
    EXPECT_TRUE(BitEqual(TensorAt(*List(Dict(*raw, "deep"), "list")[0].If<StateDict>(), "0.weight"),
                         model->parameters()[0]));
  }
  {
    v1::Selection
        selection;  // by dtype and size: the one integer tensor, what is larger than 100 B
    selection.add_include_matching()->add_dtypes(v1::DTYPE_I64);
    selection.add_include_matching()->set_min_bytes(100);
    selection.add_exclude_matching()->set_top_level("optimizer");
    EXPECT_THAT(keys_of(selection), ElementsAre("model", "deep"));
    const auto raw = LoadAll("latest");
    ASSERT_OK(raw.status());
    EXPECT_THAT(KeysOf(Dict(*raw, "model")), ElementsAre("0.weight", "1.num_batches_tracked"));
  }
  {
    v1::Selection selection;  // by regex
    selection.add_include_matching()->set_regex("^model\\.[03]\\.");
    EXPECT_THAT(keys_of(selection), ElementsAre("model"));
    const auto raw = LoadAll("latest");
    ASSERT_OK(raw.status());
    EXPECT_THAT(KeysOf(Dict(*raw, "model")),
                ElementsAre("0.weight", "0.bias", "3.weight", "3.bias"));
  }
  TorchSaveOptions bad;
  bad.selection.add_include_matching()->set_regex("(");
  EXPECT_TRUE(absl::IsInvalidArgument(Connect()->Save(9, state, bad).status()));
}

// Fine-tuning: only the head is trained, so only it and its moments are saved.
TEST_F(Conformance, filter_deep_prunes_the_optimizer) {
  auto model = SmallModel(1);
  torch::optim::AdamW optimizer(model->parameters(), torch::optim::AdamWOptions(0.1));
  TrainStep(model, optimizer, 1);
  const StateDict state{{"model", model}, {"optimizer", optimizer}};
  TorchSaveOptions declared;
  declared.selection.add_exclude("model.0.*");
  declared.selection.add_exclude("model.1.*");
  declared.prune_optimizer = true;
  ASSERT_OK(Save(1, state, declared));
  TorchSaveOptions predicate;
  predicate.filters = {{"model", [](const std::string& key, const StateValue&) {
                          return key.substr(0, 2) == "3.";
                        }}};
  predicate.prune_optimizer = true;
  ASSERT_OK(Save(2, state, predicate));
  for (const int step : {1, 2}) {
    const auto raw = LoadAll(step);
    ASSERT_OK(raw.status());
    EXPECT_THAT(KeysOf(Dict(*raw, "model")), ElementsAre("3.weight", "3.bias"));
    // Parameters 4 and 5; the groups still tell of all six.
    EXPECT_THAT(KeysOf(Dict(Dict(*raw, "optimizer"), "state")), ElementsAre("4", "5"));
    const StateDict& group = *List(Dict(*raw, "optimizer"), "param_groups")[0].If<StateDict>();
    EXPECT_EQ(List(group, "params").size(), 6u);
    auto fresh = SmallModel(2);
    torch::optim::AdamW fresh_optimizer(fresh->parameters(), torch::optim::AdamWOptions(0.9));
    StateDict loaded{{"model", fresh}, {"optimizer", fresh_optimizer}};
    LoadOptions frozen_stays;
    frozen_stays.policies = {{.glob = "model.0.*", .missing = LoadPolicy::Action::kSkip},
                             {.glob = "model.1.*", .missing = LoadPolicy::Action::kSkip}};
    ASSERT_OK(Load(step, loaded, frozen_stays).status());
    EXPECT_TRUE(BitEqual(fresh->parameters()[5], model->parameters()[5]));
    EXPECT_EQ(fresh_optimizer.state().size(), 2u);
  }
  // Nothing is left of it: still an optimizer.
  TorchSaveOptions nothing;
  nothing.selection.add_exclude("model.**");
  nothing.prune_optimizer = true;
  ASSERT_OK(Save(3, state, nothing));
  const auto raw = LoadAll(3);
  ASSERT_OK(raw.status());
  EXPECT_THAT(KeysOf(*raw), ElementsAre("optimizer"));
  EXPECT_TRUE(Dict(Dict(*raw, "optimizer"), "state").empty());
  StateDict bare{{"optimizer", optimizer}};
  ASSERT_OK(Load(3, bare).status());
  EXPECT_TRUE(optimizer.state().empty());
}

}  // namespace
}  // namespace ckpt::testing
