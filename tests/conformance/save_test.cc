// What a save stores, when it appears, and who is told what.
#include "tests/conformance/conformance_test.h"

namespace ckpt::testing {
namespace {

TEST_F(Conformance, save_unwrap) {
  auto model = SmallModel(1);
  torch::optim::AdamW optimizer(model->parameters(), torch::optim::AdamWOptions(0.25));
  TrainStep(model, optimizer, 1);
  Counter counter(5);
  ASSERT_OK(Save(1, {{"model", model},
                     {"optimizer", optimizer},
                     {"counter", counter},
                     {"iteration", 3},
                     {"tensor", torch::ones(2)}}));
  const auto raw = LoadAll(1);
  ASSERT_OK(raw.status());
  EXPECT_THAT(KeysOf(*raw), ElementsAre("model", "optimizer", "counter", "iteration", "tensor"));
  EXPECT_THAT(KeysOf(Dict(*raw, "model")),
              ElementsAre("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean",
                          "1.running_var", "1.num_batches_tracked", "3.weight", "3.bias"));
  EXPECT_TRUE(BitEqual(TensorAt(Dict(*raw, "model"), "3.bias"), model->parameters()[5]));
  const StateDict& written = Dict(*raw, "optimizer");
  EXPECT_THAT(KeysOf(written), ElementsAre("state", "param_groups"));
  EXPECT_THAT(KeysOf(Dict(written, "state")), ElementsAre("0", "1", "2", "3", "4", "5"));
  // Keyed by the parameter's number, as in Python, not by its text.
  EXPECT_EQ(Dict(written, "state").Find("0"), nullptr);
  const StateDict& first = Dict(Dict(written, "state"), 0);
  EXPECT_THAT(KeysOf(first), ElementsAre("step", "exp_avg", "exp_avg_sq"));
  EXPECT_TRUE(BitEqual(TensorAt(first, "step"), torch::tensor(1.0f)));
  const StateList& groups = List(written, "param_groups");
  ASSERT_EQ(groups.size(), 1u);
  EXPECT_EQ(*groups[0].If<StateDict>()->Find("lr")->AsDouble(), 0.25);
  EXPECT_EQ(List(*groups[0].If<StateDict>(), "params").size(), 6u);
  EXPECT_EQ(*Dict(*raw, "counter").Find("n")->AsInt(), 5);
  EXPECT_EQ(*raw->Find("iteration")->AsInt(), 3);
  EXPECT_TRUE(BitEqual(TensorAt(*raw, "tensor"), torch::ones(2)));
}

TEST_F(Conformance, save_persistent_buffers) {
  auto model = SmallModel(1);
  model->forward(torch::rand({8, 5}));  // statistics of a batch
  ASSERT_OK(Save(1, {{"all", model}, {"some", ModuleState(model.ptr(), {"*.running_*"})}}));
  const auto raw = LoadAll(1);
  ASSERT_OK(raw.status());
  EXPECT_THAT(KeysOf(Dict(*raw, "some")),
              ElementsAre("0.weight", "0.bias", "1.weight", "1.bias", "1.num_batches_tracked",
                          "3.weight", "3.bias"));
  auto all = SmallModel(2);
  auto some = SmallModel(3);
  StateDict state{{"all", all}, {"some", ModuleState(some.ptr(), {"*.running_*"})}};
  ASSERT_OK(Load(1, state).status());
  ExpectSameModule(*all, *model);
  EXPECT_TRUE(BitEqual(some->named_buffers()["1.num_batches_tracked"],
                       model->named_buffers()["1.num_batches_tracked"]));
  EXPECT_TRUE(BitEqual(some->named_buffers()["1.running_var"], torch::ones(7)));
}

TEST_F(Conformance, save_empty) {
  ASSERT_OK(Save(1, StateDict()));
  const auto raw = LoadAll(1);
  ASSERT_OK(raw.status());
  EXPECT_TRUE(raw->empty());
  StateDict state;
  const auto loaded = Load("latest", state);
  ASSERT_OK(loaded.status());
  EXPECT_EQ(loaded->step(), 1u);
  EXPECT_TRUE(loaded->remainder.empty());
}

struct Tied : torch::nn::Module {
  Tied() : embedding(torch::randn({4, 3})) {
    register_parameter("embedding", embedding);
    register_parameter("head", embedding);
  }
  at::Tensor embedding;
};

TEST_F(Conformance, save_tied) {
  auto saved = std::make_shared<Tied>();
  ASSERT_OK(Save(1, {{"model", saved}}));
  const auto info = Info(1);
  ASSERT_OK(info.status());
  EXPECT_EQ(info->data_bytes(), 12 * sizeof(float));
  auto model = std::make_shared<Tied>();
  StateDict state{{"model", model}};
  ASSERT_OK(Load(1, state).status());
  EXPECT_EQ(model->parameters()[0].data_ptr(), model->parameters()[1].data_ptr());
  EXPECT_TRUE(BitEqual(model->embedding, saved->embedding));
  const auto raw = LoadAll(1);
  ASSERT_OK(raw.status());
  EXPECT_EQ(TensorAt(Dict(*raw, "model"), "embedding").data_ptr(),
            TensorAt(Dict(*raw, "model"), "head").data_ptr());
}

// Four processes.
TEST_F(Conformance, save_rank_zero) {
  const RankShape shape{.world_size = 4};
  ASSERT_OK(RunRanks("save", 1, shape));
  RankState expected({}, 1);
  TrainStep(expected.model, expected.optimizer, 1);
  LoadOptions rule;
  rule.per_rank_source = 0;
  const auto four = LoadAll(1, rule);
  ASSERT_OK(four.status());
  ASSERT_OK(Save(2, expected.state));
  const auto one = LoadAll(2);
  ASSERT_OK(one.status());
  // As if rank 0 had saved it: the same keys in the same order, the same bytes.
  EXPECT_EQ(KeysOf(*four), KeysOf(*one));
  for (const StateEntry& entry : Dict(*one, "model")) {
    EXPECT_TRUE(BitEqual(TensorAt(Dict(*four, "model"), entry.key), *entry.value.If<at::Tensor>()))
        << entry.key.ToString();
  }
  // And each tensor once; only `random` is there four times.
  const auto info_of_four = Info(1);
  const auto info_of_one = Info(2);
  ASSERT_OK(info_of_four.status());
  ASSERT_OK(info_of_one.status());
  EXPECT_EQ(info_of_four->data_bytes(), info_of_one->data_bytes() + 3 * 3 * sizeof(float));
}

// Three processes, of which the last comes late.
TEST_F(Conformance, save_sharded) {
  RankShape shape{.world_size = 3};
  std::vector<RankProcess> ranks;
  for (shape.rank = 0; shape.rank < 2; ++shape.rank) {
    ranks.push_back(StartRank("save", 1, shape));
  }
  const absl::Time deadline = absl::Now() + absl::Minutes(1);
  for (const RankProcess& rank : ranks) {
    while (rank.Text().find("staged") == std::string::npos && absl::Now() < deadline) {
      absl::SleepFor(absl::Milliseconds(10));
    }
    EXPECT_EQ(rank.Text(), "staged\n");
  }
  EXPECT_TRUE(absl::IsNotFound(LoadAll("latest").status()));
  EXPECT_TRUE(absl::IsNotFound(LoadAll(1).status()));
  ranks.push_back(StartRank("save", 1, shape));
  for (RankProcess& rank : ranks) EXPECT_OK(rank.Await());
  LoadOptions rule;
  rule.per_rank_source = 2;
  const auto raw = LoadAll("latest", rule);
  ASSERT_OK(raw.status());
  EXPECT_TRUE(BitEqual(TensorAt(*raw, "sharded"), WholeTensor(shape.size, shape.dim)));
}

TEST_F(Conformance, save_snapshot) {
  auto checkpointer = Connect();
  auto tensor = torch::arange(300000.0f);
  auto strided = torch::arange(600.0f).view({20, 30}).t();
  auto model = torch::nn::Linear(300, 300);
  const at::Tensor wanted = tensor.clone();
  const at::Tensor wanted_strided = strided.clone();
  const at::Tensor wanted_weight = model->weight.detach().clone();
  auto save = checkpointer->Save(1, {{"t", tensor}, {"s", strided}, {"model", model}});
  ASSERT_OK(save.status());
  ASSERT_OK(save->AwaitStaged(absl::Minutes(1)));
  tensor.zero_();
  strided.zero_();
  torch::nn::init::zeros_(model->weight);
  ASSERT_OK(save->AwaitCommitted(absl::Minutes(1)));
  const auto raw = LoadAll(1);
  ASSERT_OK(raw.status());
  EXPECT_TRUE(BitEqual(TensorAt(*raw, "t"), wanted));
  EXPECT_TRUE(BitEqual(TensorAt(*raw, "s"), wanted_strided));
  EXPECT_TRUE(BitEqual(TensorAt(Dict(*raw, "model"), "weight"), wanted_weight));
}

TEST_F(Conformance, save_several_models) {
  struct Rank {
    Rank(const RankShape& shape, uint64_t seed)
        : generator(SmallModel(seed)),
          critic(SmallModel(seed + 10)),
          generator_optimizer(generator->parameters(), torch::optim::AdamWOptions(0.1)),
          critic_optimizer(critic->parameters(), torch::optim::SGDOptions(0.1).momentum(0.9)) {
      TrainStep(generator, generator_optimizer, seed);
      TrainStep(critic, critic_optimizer, seed + 1);
      state = {{"generator", generator},
               {"generator_optimizer", generator_optimizer},
               {"critic", critic},
               {"critic_optimizer", critic_optimizer},
               {"one", StateDict{{"weight", ShardOf(WholeTensor(5, 0), shape)}}},
               {"two", StateDict{{"weight", ShardOf(WholeTensor(7, 2), {shape.rank, 2, 7, 2})}}}};
    }
    torch::nn::Sequential generator;
    torch::nn::Sequential critic;
    torch::optim::AdamW generator_optimizer;
    torch::optim::SGD critic_optimizer;
    StateDict state;
  };
  Rank first({0, 2, 5, 0}, 1);
  Rank second({1, 2, 5, 0}, 1);
  ASSERT_OK(Save(1, {first.state, second.state}));
  Rank loaded({0, 1, 5, 0}, 3);
  loaded.state["one"] = StateDict{{"weight", torch::zeros({5, 3, 4})}};
  loaded.state["two"] = StateDict{{"weight", torch::zeros({2, 3, 7})}};
  const auto result = Load(1, loaded.state);
  ASSERT_OK(result.status());
  EXPECT_TRUE(result->remainder.empty());
  EXPECT_TRUE(BitEqual(TensorAt(Dict(loaded.state, "one"), "weight"), WholeTensor(5, 0)));
  EXPECT_TRUE(BitEqual(TensorAt(Dict(loaded.state, "two"), "weight"), WholeTensor(7, 2)));
  for (Rank* rank : {&first, &loaded}) {
    TrainStep(rank->generator, rank->generator_optimizer, 7);
    TrainStep(rank->critic, rank->critic_optimizer, 8);
  }
  ExpectSameModule(*loaded.generator, *first.generator);
  ExpectSameModule(*loaded.critic, *first.critic);
}

TEST_F(Conformance, save_nested) {
  struct Nest {
    explicit Nest(uint64_t seed)
        : one(SmallModel(seed)),
          two(SmallModel(seed + 10)),
          optimizer(two->parameters(), torch::optim::AdamWOptions(0.1)),
          counter(static_cast<int64_t>(seed)),
          state({{"deep",
                  StateDict{{"list",
                             StateList{one, StateDict{{"two", two}, {"more", StateList{optimizer}}},
                                       static_cast<int64_t>(seed)}},
                            {"counter", counter}}},
                 {"x", static_cast<double>(seed) / 4}}) {
      TrainStep(two, optimizer, seed);
    }
    torch::nn::Sequential one;
    torch::nn::Sequential two;
    torch::optim::AdamW optimizer;
    Counter counter;
    StateDict state;
  };
  Nest saved(1);
  ASSERT_OK(Save(1, saved.state));
  Nest loaded(2);
  ASSERT_OK(Load(1, loaded.state).status());
  ExpectSameModule(*loaded.one, *saved.one);
  for (Nest* nest : {&saved, &loaded}) TrainStep(nest->two, nest->optimizer, 5);
  ExpectSameModule(*loaded.two, *saved.two);
  EXPECT_EQ(loaded.counter.n, 1);
  EXPECT_EQ(*List(Dict(loaded.state, "deep"), "list")[2].AsInt(), 1);
  EXPECT_EQ(*loaded.state["x"].AsDouble(), 0.25);
  const auto raw = LoadAll(1);
  ASSERT_OK(raw.status());
  const StateDict& inner = *List(Dict(*raw, "deep"), "list")[1].If<StateDict>();
  EXPECT_TRUE(
      BitEqual(TensorAt(Dict(Dict(*List(inner, "more")[0].If<StateDict>(), "state"), 0), "step"),
               torch::tensor(1.0f)));
}

// Three processes save.
TEST_F(Conformance, save_per_rank) {
  ASSERT_OK(RunRanks("save", 1, {.world_size = 3}));
  for (const uint32_t rank : {0u, 1u, 2u}) {
    StateDict state{{"position", 0}, {"random", torch::zeros(3)}};
    ASSERT_OK(Load(1, state, {}, rank, 3).status());
    EXPECT_EQ(*state["position"].AsInt(), rank * 10);
    EXPECT_TRUE(BitEqual(TensorAt(state, "random"), torch::full({3}, static_cast<double>(rank))));
  }
  // Another world size: nobody guesses.
  StateDict state{{"position", -1}, {"random", torch::zeros(3)}};
  const absl::Status unruled = Load(1, state, {}, 1, 2).status();
  EXPECT_TRUE(absl::IsInvalidArgument(unruled)) << unruled;
  EXPECT_THAT(std::string(unruled.message()), HasSubstr("per_rank_source"));
  EXPECT_THAT(std::string(unruled.message()), HasSubstr("position, random"));
  EXPECT_EQ(*state["position"].AsInt(), -1);
  LoadOptions rule;
  for (const uint32_t source : {0u, 2u}) {
    rule.per_rank_source = source;
    ASSERT_OK(Load(1, state, rule, 1, 2).status());
    EXPECT_EQ(*state["position"].AsInt(), source * 10);
  }
  rule.per_rank_source = 3;
  EXPECT_TRUE(absl::IsInvalidArgument(Load(1, state, rule, 1, 2).status()));
  rule.per_rank_source = LoadOptions::kOwnRankWrapped;
  for (const uint32_t rank : {0u, 2u, 3u, 7u}) {
    ASSERT_OK(Load(1, state, rule, rank, 8).status());
    EXPECT_EQ(*state["position"].AsInt(), rank % 3 * 10);
  }
}

TEST_F(Conformance, save_overwrite) {
  const auto state_of = [](double value, uint32_t rank, uint32_t ranks) {
    return StateDict{{"model", Replicated(torch::full({64}, value))},
                     {"own", static_cast<int64_t>(value)},
                     {absl::StrCat("only ", rank, " of ", ranks), 1}};
  };
  const auto all = [&](double value, uint32_t ranks) {
    std::vector<StateDict> states;
    for (uint32_t rank = 0; rank < ranks; ++rank) states.push_back(state_of(value, rank, ranks));
    return states;
  };
  const auto expect = [&](double value) {
    LoadOptions rule;
    rule.per_rank_source = 0;
    const auto raw = LoadAll(1, rule);
    ASSERT_OK(raw.status());
    EXPECT_TRUE(BitEqual(TensorAt(*raw, "model"), torch::full({64}, value)));
  };
  ASSERT_OK(Save(1, all(1, 3)));
  EXPECT_TRUE(absl::IsAlreadyExists(Save(1, all(2, 3))));
  expect(1);
  // Asked for, but one of the two ranks dies on the way, and then the daemon.
  TorchSaveOptions replace;
  replace.save.if_exists = v1::IF_EXISTS_REPLACE;
  NewLaunch();
  {
    auto half = Connect(0, 2);
    auto save = half->Save(1, state_of(2, 0, 2), replace);
    ASSERT_OK(save.status());
    ASSERT_OK(save->AwaitStaged(absl::Minutes(1)));
    expect(1);
    daemon_->Kill();
  }
  ASSERT_OK(daemon_->Restart());
  expect(1);
  NewLaunch();
  ASSERT_OK(Save(1, all(3, 2), replace));
  expect(3);
  const auto info = Info(1);
  ASSERT_OK(info.status());
  EXPECT_EQ(info->world_size(), 2u);  // nothing of the third rank
  for (const uint32_t rank : {0u, 1u}) {
    LoadOptions rule;
    rule.per_rank_source = rank;
    const auto raw = LoadAll(1, rule);
    ASSERT_OK(raw.status());
    EXPECT_THAT(KeysOf(*raw),
                UnorderedElementsAre("model", "own", absl::StrCat("only ", rank, " of 2")));
  }
  // The same launch may, too.
  EXPECT_TRUE(absl::IsAlreadyExists(Save(1, all(4, 2))));
  expect(3);
  ASSERT_OK(Save(1, all(4, 2), replace));
  expect(4);
}

// A new launch replaces the steps beyond the one that it resumed from.
TEST_F(Conformance, save_overwrite_by_the_next_launch) {
  const auto state_of = [](double value) { return StateDict{{"t", torch::full({4}, value)}}; };
  ASSERT_OK(Save(1, state_of(1)));
  ASSERT_OK(Save(2, state_of(2)));
  NewLaunch();
  auto second = Connect();
  StateDict state = state_of(0);
  ASSERT_OK(second->Load(1, state).status());
  const auto save = [&](uint64_t step, double value) {
    auto handle = second->Save(step, state_of(value));
    return handle.ok() ? handle->AwaitCommitted(absl::Minutes(1)) : handle.status();
  };
  EXPECT_TRUE(absl::IsAlreadyExists(save(1, 5)));
  ASSERT_OK(save(2, 7));
  const auto raw = LoadAll("latest");
  ASSERT_OK(raw.status());
  EXPECT_TRUE(BitEqual(TensorAt(*raw, "t"), torch::full({4}, 7.0)));
}

TEST_F(Conformance, save_error_now) {
  auto one = Connect(0, 2);
  auto two = Connect(1, 2);
  auto model = SmallModel(1);
  torch::optim::AdamW optimizer(model->parameters(), torch::optim::AdamWOptions(0.1));
  StateDict state{{"model", model}, {"optimizer", optimizer}};
  // The ranks do not agree on what is replicated.
  auto failing = one->Save(1, state);
  auto other = two->Save(1, {{"model", model}});
  ASSERT_OK(failing.status());
  ASSERT_OK(other.status());
  const absl::Status end = failing->AwaitCommitted(absl::Minutes(1));
  EXPECT_FALSE(end.ok());
  EXPECT_THAT(std::string(end.message()), HasSubstr("replicated"));
  EXPECT_FALSE(failing->status().ok());
  EXPECT_FALSE(other->AwaitCommitted(absl::Minutes(1)).ok());
  // Training goes on, and the next save knows nothing of it.
  TrainStep(model, optimizer, 1);
  auto next = one->Save(2, state);
  auto next_other = two->Save(2, state);
  ASSERT_OK(next.status());
  ASSERT_OK(next_other.status());
  EXPECT_OK(next->AwaitCommitted(absl::Minutes(1)));
  EXPECT_OK(next_other->AwaitCommitted(absl::Minutes(1)));
  EXPECT_FALSE(failing->status().ok());
}

}  // namespace
}  // namespace ckpt::testing
