// The adapter with the real daemon: what was saved comes back bit-equal, from memory and from disk,
// on any number of ranks. Ranks are threads, each with a Checkpointer of its own.
#include "tests/fixtures/daemon.h"

#include <filesystem>
#include <thread>

#include "tests/torch/torch_test.h"

namespace ckpt::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class TorchDaemonTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto daemon = Daemon::Start();
    ASSERT_OK(daemon.status());
    daemon_ = *std::move(daemon);
  }
  absl::StatusOr<std::unique_ptr<Checkpointer>> Connect(uint32_t rank = 0,
                                                        uint32_t world_size = 1) {
    CheckpointerOptions options;
    options.client.socket = daemon_->socket();
    options.run = "team/torch";
    options.rank = rank;
    options.world_size = world_size;
    options.incarnation = launch_;
    return Checkpointer::Connect(options);
  }
  void NewLaunch() { launch_ = Incarnation::TimeOrdered(); }

  // `body` on each rank in a thread of its own.
  void OnRanks(uint32_t world_size, const std::function<void(Checkpointer&, uint32_t)>& body) {
    std::vector<std::thread> threads;
    for (uint32_t rank = 0; rank < world_size; ++rank) {
      threads.emplace_back([&, rank] {
        auto checkpointer = Connect(rank, world_size);
        ASSERT_OK(checkpointer.status());
        body(**checkpointer, rank);
      });
    }
    for (std::thread& thread : threads) thread.join();
  }

  static absl::Status SaveAndWait(Checkpointer& checkpointer, uint64_t step, const StateDict& state,
                                  const TorchSaveOptions& options = {}) {
    auto save = checkpointer.Save(step, state, options);
    if (!save.ok()) return save.status();
    if (absl::Status staged = save->AwaitStaged(absl::Minutes(1)); !staged.ok()) return staged;
    return save->AwaitCommitted(absl::Minutes(1));
  }

  Incarnation launch_ = Incarnation::TimeOrdered();
  std::unique_ptr<Daemon> daemon_;
};

TEST_F(TorchDaemonTest, TrainingResumesBitEqualFromMemoryAndFromDisk) {
  auto model = SmallModel(1);
  torch::optim::AdamW optimizer(model->parameters(), torch::optim::AdamWOptions(0.01));
  StateDict state{{"model", model},
                  {"optimizer", optimizer},
                  {"iteration", 3},
                  {"text", std::string(9000, 't')},
                  {"empty", torch::empty({0, 2})},
                  {"nested", StateDict{{"a", StateList{1, 2.5, StateDict()}}}}};
  auto checkpointer = Connect();
  ASSERT_OK(checkpointer.status());
  EXPECT_TRUE(absl::IsNotFound((*checkpointer)->Load("latest", state).status()));
  ASSERT_OK((*checkpointer)->Prepare(state));
  for (uint64_t i = 0; i < 3; ++i) TrainStep(model, optimizer, i);
  ASSERT_OK(SaveAndWait(**checkpointer, 3, state));
  for (uint64_t i = 3; i < 5; ++i) TrainStep(model, optimizer, i);

  for (const bool restarted : {false, true}) {
    if (restarted) ASSERT_OK(daemon_->Restart());
    NewLaunch();
    auto again = Connect();
    ASSERT_OK(again.status());
    auto other = SmallModel(8);
    torch::optim::AdamW other_optimizer(other->parameters(), torch::optim::AdamWOptions(0.9));
    StateDict loaded{{"model", other},
                     {"optimizer", other_optimizer},
                     {"iteration", 0},
                     {"empty", torch::empty({0, 2})}};
    const auto result = (*again)->Load("latest", loaded);
    ASSERT_OK(result.status());
    EXPECT_EQ(result->step(), 3u);
    EXPECT_EQ((*again)->resumed_step(), 3u);
    EXPECT_EQ(*loaded["iteration"].AsInt(), 3);
    EXPECT_THAT(KeysOf(result->remainder), ElementsAre("text", "nested"));
    EXPECT_EQ(*result->remainder.Find("text")->AsString(), std::string(9000, 't'));
    for (uint64_t i = 3; i < 5; ++i) TrainStep(other, other_optimizer, i);
    for (size_t i = 0; i < model->parameters().size(); ++i) {
      EXPECT_TRUE(BitEqual(model->parameters()[i], other->parameters()[i])) << i;
    }
  }
}

TEST_F(TorchDaemonTest, WhatIsSavedIsWhatWasThereWhenStaged) {
  auto checkpointer = Connect();
  ASSERT_OK(checkpointer.status());
  auto tensor = torch::arange(300000.0f);
  auto strided = torch::arange(600.0f).view({20, 30}).t();
  const at::Tensor wanted = tensor.clone();
  const at::Tensor wanted_strided = strided.clone();
  StateDict state{{"t", tensor}, {"s", strided}};
  auto save = (*checkpointer)->Save(1, state);
  ASSERT_OK(save.status());
  ASSERT_OK(save->AwaitStaged(absl::Minutes(1)));
  tensor.zero_();
  strided.zero_();
  ASSERT_OK(save->AwaitCommitted(absl::Minutes(1)));
  const auto raw = (*checkpointer)->Load(1);
  ASSERT_OK(raw.status());
  EXPECT_TRUE(BitEqual(TensorAt(*raw, "t"), wanted));
  EXPECT_TRUE(BitEqual(TensorAt(*raw, "s"), wanted_strided));
}

TEST_F(TorchDaemonTest, EveryDTypeComesBack) {
  auto bytes = torch::randint(0, 256, {96}, torch::kUInt8);
  StateDict state;
  for (const auto type :
       {torch::kUInt8, torch::kInt8, torch::kInt16, torch::kInt32, torch::kInt64, torch::kFloat16,
        torch::kBFloat16, torch::kFloat32, torch::kFloat64, torch::kComplexFloat}) {
    state[std::string(c10::toString(type))] = bytes.view(type);
    state[std::string("scalar ") + c10::toString(type)] = bytes.view(type)[0].clone();
  }
  state["bool"] = bytes.gt(100);
  auto checkpointer = Connect();
  ASSERT_OK(checkpointer.status());
  ASSERT_OK(SaveAndWait(**checkpointer, 1, state));
  const auto raw = (*checkpointer)->Load("latest");
  ASSERT_OK(raw.status());
  EXPECT_EQ(KeysOf(*raw), KeysOf(state));
  for (const StateEntry& entry : state) {
    EXPECT_TRUE(BitEqual(TensorAt(*raw, entry.key), *entry.value.If<at::Tensor>()))
        << entry.key.ToString();
  }
}

TEST_F(TorchDaemonTest, ReplicatedTiedAndFilteredOnFourRanks) {
  const auto make_state = [](uint32_t rank) {
    auto model = SmallModel(1);  // equal on all ranks
    auto tied = torch::arange(8.0f);
    return StateDict{{"model", model},
                     {"tied", Replicated(StateDict{{"a", tied}, {"b", tied}})},
                     {"own", static_cast<int64_t>(rank)}};
  };
  TorchSaveOptions options;
  options.filters = {{"model", [](const std::string& key, const StateValue&) {
                        return key.find("weight") != std::string::npos;
                      }}};
  // Made here: the ranks of this test are threads, which would share one random generator.
  std::vector<StateDict> states;
  for (uint32_t rank = 0; rank < 4; ++rank) states.push_back(make_state(rank));
  OnRanks(4, [&](Checkpointer& checkpointer, uint32_t rank) {
    ASSERT_OK(SaveAndWait(checkpointer, 5, states[rank], options));
  });
  auto reader = Connect();
  ASSERT_OK(reader.status());
  LoadOptions rule;
  rule.per_rank_source = 2;
  const auto raw = (*reader)->Load(5, rule);
  ASSERT_OK(raw.status());
  EXPECT_THAT(KeysOf(*raw), ElementsAre("model", "tied", "own"));
  EXPECT_THAT(KeysOf(Dict(*raw, "model")), ElementsAre("0.weight", "1.weight", "3.weight"));
  EXPECT_TRUE(BitEqual(TensorAt(Dict(*raw, "model"), "0.weight"), SmallModel(1)->parameters()[0]));
  EXPECT_EQ(TensorAt(Dict(*raw, "tied"), "a").data_ptr(),
            TensorAt(Dict(*raw, "tied"), "b").data_ptr());
  EXPECT_EQ(*raw->Find("own")->AsInt(), 2);
  EXPECT_TRUE(absl::IsInvalidArgument((*reader)->Load(5).status()));
  v1::Selector selector;
  selector.set_run("team/torch");
  selector.set_step(5);
  const auto info = (*reader)->client().GetCheckpoint(selector);
  ASSERT_OK(info.status());
  // Once: three weights of float32 and eight floats.
  EXPECT_EQ(info->data_bytes(), (35 + 7 + 21 + 8) * sizeof(float));
}

TEST_F(TorchDaemonTest, ShardsLoadOnAnyNumberOfRanks) {
  const auto whole = torch::arange(13.0f * 3).view({13, 3});
  const auto shard = [&](uint32_t rank, uint32_t ranks) {
    const int64_t each = (13 + ranks - 1) / ranks;
    const int64_t begin = std::min<int64_t>(13, each * rank);
    const int64_t end = std::min<int64_t>(13, begin + each);
    return Sharded{whole.slice(0, begin, end).clone(), {13, 3}, {begin, 0}};
  };
  uint64_t step = 0;
  for (const uint32_t from : {1u, 3u, 8u}) {
    ++step;
    OnRanks(from, [&](Checkpointer& checkpointer, uint32_t rank) {
      ASSERT_OK(SaveAndWait(checkpointer, step, {{"t", shard(rank, from)}}));
    });
    for (const uint32_t to : {1u, 2u, 4u}) {
      OnRanks(to, [&](Checkpointer& checkpointer, uint32_t rank) {
        Sharded mine = shard(rank, to);
        const at::Tensor wanted = mine.local.clone();
        mine.local.zero_();
        StateDict state{{"t", mine}};
        ASSERT_OK(checkpointer.Load(step, state).status());
        EXPECT_TRUE(BitEqual(mine.local, wanted)) << from << " to " << to << ", rank " << rank;
      });
    }
  }
}

TEST_F(TorchDaemonTest, StepsBeyondTheResumedOneAreReplacedByTheNextLaunch) {
  const auto save = [&](Checkpointer& checkpointer, uint64_t step, double value) {
    return SaveAndWait(checkpointer, step, {{"t", torch::full({4}, value)}});
  };
  auto first = Connect();
  ASSERT_OK(first.status());
  ASSERT_OK(save(**first, 1, 1));
  ASSERT_OK(save(**first, 2, 2));
  EXPECT_TRUE(absl::IsAlreadyExists(save(**first, 2, 3)));
  NewLaunch();
  auto second = Connect();
  ASSERT_OK(second.status());
  StateDict state{{"t", torch::zeros(4)}};
  ASSERT_OK((*second)->Load(1, state).status());
  EXPECT_TRUE(absl::IsAlreadyExists(save(**second, 1, 5)));
  ASSERT_OK(save(**second, 2, 7));
  const auto raw = (*second)->Load("latest");
  ASSERT_OK(raw.status());
  EXPECT_TRUE(BitEqual(TensorAt(*raw, "t"), torch::full({4}, 7.0)));
}

TEST_F(TorchDaemonTest, ErrorsSayWhatExists) {
  auto checkpointer = Connect();
  ASSERT_OK(checkpointer.status());
  ASSERT_OK(SaveAndWait(**checkpointer, 12, {{"a", 1}}));
  const absl::Status unknown = (*checkpointer)->Load(13).status();
  EXPECT_TRUE(absl::IsNotFound(unknown)) << unknown;
  EXPECT_THAT(std::string(unknown.message()), HasSubstr("12"));
  EXPECT_TRUE(absl::IsInvalidArgument((*checkpointer)->Load("a b").status()));
  StateDict state{{"b", 1}};
  const absl::Status missing = (*checkpointer)->Load("latest", state).status();
  EXPECT_TRUE(absl::IsNotFound(missing)) << missing;
  EXPECT_THAT(std::string(missing.message()), HasSubstr("team/torch@12"));
  EXPECT_TRUE(absl::IsInvalidArgument((*checkpointer)->LoadObject(12, 5).status()));
}

TEST(TorchConnect, BadOptionsAreRefused) {
  CheckpointerOptions options;
  options.run = "../x";
  EXPECT_TRUE(absl::IsInvalidArgument(Checkpointer::Connect(options).status()));
  options.run = "x";
  options.rank = 2;
  options.world_size = 2;
  EXPECT_TRUE(absl::IsInvalidArgument(Checkpointer::Connect(options).status()));
}

}  // namespace
}  // namespace ckpt::testing
