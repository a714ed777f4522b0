// What a load restores, what it reports, and what it leaves alone.
#include "tests/conformance/conformance_test.h"

namespace ckpt::testing {
namespace {

TEST_F(Conformance, load_in_place) {
  auto saved = SmallModel(1);
  torch::optim::AdamW saved_optimizer(saved->parameters(), torch::optim::AdamWOptions(0.1));
  TrainStep(saved, saved_optimizer, 1);
  Counter saved_counter(5);
  ASSERT_OK(Save(1, {{"model", saved},
                     {"optimizer", saved_optimizer},
                     {"counter", saved_counter},
                     {"tensor", torch::ones(3)},
                     {"iteration", 41}}));
  auto model = SmallModel(2);
  torch::optim::AdamW optimizer(model->parameters(), torch::optim::AdamWOptions(0.9));
  TrainStep(model, optimizer, 2);
  Counter counter(0);
  auto tensor = torch::zeros(3);
  std::vector<void*> addresses;
  const auto all = [&] {
    std::vector<at::Tensor> tensors = model->parameters();
    for (const at::Tensor& buffer : model->buffers()) tensors.push_back(buffer);
    for (const auto& entry : optimizer.state()) {
      tensors.push_back(static_cast<torch::optim::AdamWParamState&>(*entry.second).exp_avg());
    }
    tensors.push_back(tensor);
    std::vector<void*> places;
    for (const at::Tensor& each : tensors) places.push_back(each.data_ptr());
    return places;
  };
  const auto before = all();
  StateDict state{{"model", model},
                  {"optimizer", optimizer},
                  {"counter", counter},
                  {"tensor", tensor},
                  {"iteration", 0}};
  const auto result = Load(1, state);
  ASSERT_OK(result.status());
  EXPECT_EQ(all(), before);
  ExpectSameModule(*model, *saved);
  EXPECT_TRUE(model->parameters()[0].requires_grad());
  EXPECT_TRUE(BitEqual(tensor, torch::ones(3)));
  EXPECT_EQ(counter.n, 5);
  EXPECT_EQ(*state["iteration"].AsInt(), 41);
  EXPECT_TRUE(result->remainder.empty());
  EXPECT_EQ(result->step(), 1u);
  EXPECT_EQ(result->report.restored.front(), "model.0.weight");
  EXPECT_EQ(result->report.restored.back(), "iteration");
}

TEST_F(Conformance, load_remainder) {
  auto model = torch::nn::Linear(2, 2);
  ASSERT_OK(Save(1, {{"z", 1},
                     {"model", model},
                     {"extra", StateDict{{"t", torch::ones(3)}, {"s", "text"}}},
                     {"a", StateList{1, 2}},
                     {"empty", StateDict()},
                     {"asked", StateDict{{"x", 1}, {"y", 2}}}}));
  auto other = torch::nn::Linear(2, 2);
  StateDict state{{"asked", StateDict{{"x", 0}}}, {"model", other}};
  const auto result = Load(1, state);
  ASSERT_OK(result.status());
  EXPECT_THAT(KeysOf(result->remainder), ElementsAre("z", "extra", "a", "empty", "asked"));
  EXPECT_THAT(KeysOf(Dict(result->remainder, "asked")), ElementsAre("y"));
  EXPECT_EQ(*Dict(result->remainder, "extra").Find("s")->AsString(), "text");
  EXPECT_EQ(result->report.bytes.bytes_asked, 6 * sizeof(float));  // nobody has looked at it
  const auto tensor = Dict(result->remainder, "extra").Find("t")->AsTensor();
  ASSERT_OK(tensor.status());
  EXPECT_TRUE(BitEqual(*tensor, torch::ones(3)));

  LoadOptions options;
  options.remainder = LoadOptions::Remainder::kRead;
  const auto whole = Load(1, state, options);
  ASSERT_OK(whole.status());
  EXPECT_TRUE(BitEqual(TensorAt(Dict(whole->remainder, "extra"), "t"), torch::ones(3)));
  options.remainder = LoadOptions::Remainder::kDrop;
  const auto none = Load(1, state, options);
  ASSERT_OK(none.status());
  EXPECT_TRUE(none->remainder.empty());
}

TEST_F(Conformance, load_raw_all) {
  auto model = SmallModel(1);
  const StateDict saved{{"model", model},
                        {"nested", StateDict{{"list", StateList{1, StateDict{{"t", torch::ones(2)}},
                                                                StateList(), StateDict()}}}},
                        {"text", std::string(10000, 'x')}};
  ASSERT_OK(Save(1, saved));
  const auto raw = LoadAll(1);
  ASSERT_OK(raw.status());
  EXPECT_EQ(KeysOf(*raw), KeysOf(saved));
  EXPECT_EQ(Dict(*raw, "model").size(), 9u);
  EXPECT_TRUE(BitEqual(TensorAt(Dict(*raw, "model"), "0.weight"), model->parameters()[0]));
  EXPECT_NE(TensorAt(Dict(*raw, "model"), "0.weight").data_ptr(),
            model->parameters()[0].data_ptr());
  const StateList& list = List(Dict(*raw, "nested"), "list");
  ASSERT_EQ(list.size(), 4u);
  EXPECT_TRUE(BitEqual(TensorAt(*list[1].If<StateDict>(), "t"), torch::ones(2)));
  EXPECT_NE(list[2].If<StateList>(), nullptr);
  EXPECT_NE(list[3].If<StateDict>(), nullptr);
  EXPECT_EQ(*raw->Find("text")->AsString(), std::string(10000, 'x'));
}

TEST_F(Conformance, load_raw_object) {
  auto saved = SmallModel(1);
  torch::optim::AdamW saved_optimizer(saved->parameters(), torch::optim::AdamWOptions(0.1));
  TrainStep(saved, saved_optimizer, 1);
  const auto bare = ToStateDict(saved);
  ASSERT_OK(bare.status());
  ASSERT_OK(Save(1, *bare));
  ASSERT_OK(Save(2, {{"nets", StateDict{{"a", saved}, {"o", saved_optimizer}}}, {"x", 1}}));
  auto model = SmallModel(2);
  torch::optim::AdamW optimizer(model->parameters(), torch::optim::AdamWOptions(0.9));
  auto checkpointer = Connect();
  const auto whole = checkpointer->LoadObject(1, model);
  ASSERT_OK(whole.status());
  EXPECT_TRUE(whole->remainder.empty());
  ExpectSameModule(*model, *saved);
  model = SmallModel(2);
  const auto part = checkpointer->LoadObject(2, model, {"nets", "a"});
  ASSERT_OK(part.status());
  ExpectSameModule(*model, *saved);
  EXPECT_TRUE(part->remainder.empty());  // what lies beside the path is nobody's
  torch::optim::AdamW other(model->parameters(), torch::optim::AdamWOptions(0.9));
  ASSERT_OK(checkpointer->LoadObject(2, other, {"nets", "o"}).status());
  TrainStep(model, other, 2);
  TrainStep(saved, saved_optimizer, 2);
  ExpectSameModule(*model, *saved);
  const absl::Status missing = checkpointer->LoadObject(2, model, {"nets", "b"}).status();
  EXPECT_TRUE(absl::IsNotFound(missing)) << missing;
  EXPECT_TRUE(absl::IsInvalidArgument(checkpointer->LoadObject(2, 5).status()));
}

// From memory, and from disk after the daemon was started anew.
TEST_F(Conformance, load_optimizer) {
  const auto make = [](torch::nn::Sequential& model, double lr) {
    const auto all = model->parameters();
    std::vector<torch::optim::OptimizerParamGroup> groups;
    groups.emplace_back(std::vector<at::Tensor>(all.begin(), all.begin() + 2));
    groups.emplace_back(std::vector<at::Tensor>(all.begin() + 2, all.end()));
    auto optimizer =
        std::make_unique<torch::optim::AdamW>(std::move(groups), torch::optim::AdamWOptions(lr));
    optimizer->param_groups()[1].options().set_lr(lr / 2);
    return optimizer;
  };
  auto model = SmallModel(1);
  auto optimizer = make(model, 0.01);
  torch::optim::SGD unused(model->parameters(), torch::optim::SGDOptions(0.5).momentum(0.9));
  for (uint64_t i = 0; i < 3; ++i) TrainStep(model, *optimizer, i);
  ASSERT_OK(
      Save(3, {{"model", model}, {"optimizer", *optimizer}, {"unused", unused}, {"iteration", 3}}));
  for (uint64_t i = 3; i < 6; ++i) TrainStep(model, *optimizer, i);
  for (const bool restarted : {false, true}) {
    if (restarted) ForgetMemory();
    NewLaunch();
    auto other = SmallModel(8);
    auto other_optimizer = make(other, 0.9);
    torch::optim::SGD other_unused(other->parameters(), torch::optim::SGDOptions(0.1));
    StateDict state{{"model", other},
                    {"optimizer", *other_optimizer},
                    {"unused", other_unused},
                    {"iteration", 0}};
    auto checkpointer = Connect();
    ASSERT_OK(checkpointer->Load("latest", state).status());
    EXPECT_EQ(checkpointer->resumed_step(), 3u);
    EXPECT_EQ(*state["iteration"].AsInt(), 3);
    EXPECT_EQ(other_optimizer->param_groups()[0].options().get_lr(), 0.01);
    EXPECT_EQ(other_optimizer->param_groups()[1].options().get_lr(), 0.005);
    EXPECT_EQ(other_unused.param_groups()[0].options().get_lr(), 0.5);
    EXPECT_TRUE(other_unused.state().empty());
    for (uint64_t i = 3; i < 6; ++i) TrainStep(other, *other_optimizer, i);
    ExpectSameModule(*other, *model);
  }
}

TEST_F(Conformance, load_rename) {
  struct Ddp : torch::nn::Module {  // what a wrapped model's names look like
    explicit Ddp(torch::nn::Sequential& inner) { register_module("module", inner); }
  };
  auto inner = SmallModel(1);
  auto ddp = std::make_shared<Ddp>(inner);
  ASSERT_OK(Save(1, {{"model", ddp}, {"iteration", 3}}));
  ASSERT_OK(Save(2, {{"net", inner},
                     {"encoder", StateDict{{"encoder.weight", torch::ones(2)},
                                           {"encoder.bias", torch::zeros(2)}}}}));
  const auto load = [&](uint64_t step, StateDict state, std::vector<Rename> renames) {
    LoadOptions options;
    options.renames = std::move(renames);
    return Load(step, state, options).status();
  };
  auto model = SmallModel(2);
  const absl::Status unnamed = load(1, {{"model", model}}, {});
  EXPECT_THAT(std::string(unnamed.message()),
              HasSubstr("LoadOptions::renames = {Rename::StripPrefix(\"module.\")}"));
  ASSERT_OK(load(1, {{"model", model}, {"iteration", 0}}, {Rename::StripPrefix("module.")}));
  ExpectSameModule(*model, *inner);
  auto regex = SmallModel(3);
  ASSERT_OK(load(1, {{"model", regex}}, {Rename::Regex("^module\\.(\\d)", "\\1")}));
  ExpectSameModule(*regex, *inner);
  // The other way, and a key of the state itself; rules apply one after another.
  auto other = SmallModel(4);
  auto wrapped = std::make_shared<Ddp>(other);
  ASSERT_OK(load(2, {{"model", wrapped}},
                 {Rename::AddPrefix("inner."), Rename::Prefix("inner.", "module."),
                  Rename::Regex("^net$", "model").In("")}));
  ExpectSameModule(*other, *inner);
  // In one dictionary.
  auto weight = torch::zeros(2);
  StateDict backbone{{"encoder", StateDict{{"backbone.weight", weight}}}};
  LoadOptions options;
  options.renames = {Rename::Prefix("encoder.", "backbone.").In("encoder")};
  const auto loaded = Load(2, backbone, options);
  ASSERT_OK(loaded.status());
  EXPECT_TRUE(BitEqual(weight, torch::ones(2)));
  EXPECT_THAT(loaded->report.restored, ElementsAre("encoder.encoder.weight"));
  EXPECT_THAT(KeysOf(Dict(loaded->remainder, "encoder")), ElementsAre("encoder.bias"));
  // Two that become one.
  auto untouched = SmallModel(5);
  const at::Tensor before = untouched->parameters()[0].detach().clone();
  const absl::Status collision =
      load(1, {{"model", untouched}}, {Rename::Regex("module\\.\\d\\.", "")});
  EXPECT_TRUE(absl::IsInvalidArgument(collision)) << collision;
  EXPECT_THAT(std::string(collision.message()),
              HasSubstr("model.module.0.weight and model.module.1.weight both become weight"));
  EXPECT_TRUE(BitEqual(untouched->parameters()[0], before));
  for (const Rename& bad : {Rename::Regex("(", ""), Rename::Regex("a", "\\1")}) {
    EXPECT_TRUE(absl::IsInvalidArgument(load(1, {{"model", model}}, {bad})));
  }
}

}  // namespace
}  // namespace ckpt::testing
