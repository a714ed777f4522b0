// What a load restores, what it reports, and what it leaves alone.
#include "client/torch/tensor_bytes.h"
#include "common/key.h"
#include "tests/conformance/conformance_test.h"

namespace ckpt::testing {
namespace {

using Action = LoadPolicy::Action;

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

TEST_F(Conformance, load_strict_top) {
  ASSERT_OK(Save(1, {{"model", torch::nn::Linear(1, 1)}, {"steps", 3}, {"t", torch::ones(2)}}));
  auto tensor = torch::zeros(2);
  StateDict state{
      {"modl", torch::nn::Linear(1, 1)}, {"step", 0}, {"nothing_like_it", 1}, {"t", tensor}};
  const absl::Status status = Load(1, state).status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  const std::string text(status.message());
  EXPECT_THAT(text, HasSubstr("modl (nearest: model)"));
  EXPECT_THAT(text, HasSubstr("step (nearest: steps)"));
  EXPECT_THAT(text, HasSubstr("nothing_like_it"));
  EXPECT_THAT(text, HasSubstr("team/run@1"));
  EXPECT_TRUE(BitEqual(tensor, torch::zeros(2)));
  EXPECT_EQ(*state["step"].AsInt(), 0);
}

TEST_F(Conformance, load_strict_params) {
  auto saved = torch::nn::Sequential(torch::nn::Linear(2, 2), torch::nn::Linear(2, 2));
  ASSERT_OK(Save(1, {{"model", saved}}));
  auto without = torch::nn::Linear(torch::nn::LinearOptions(2, 2).bias(false));
  auto model = torch::nn::Sequential(without, torch::nn::Linear(2, 2), torch::nn::Linear(2, 2));
  const at::Tensor before = without->weight.detach().clone();
  StateDict state{{"model", model}};
  LoadReport report;
  LoadOptions options;
  options.report = &report;
  const absl::Status status = Load(1, state, options).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  const std::string text(status.message());
  EXPECT_THAT(text,
              HasSubstr("missing from the checkpoint (2): model.2.weight (nearest: 0.weight"));
  EXPECT_THAT(text, HasSubstr("model.2.bias"));
  EXPECT_THAT(text, HasSubstr("unexpected in the checkpoint (1): model.0.bias (nearest: 1.bias"));
  EXPECT_TRUE(BitEqual(without->weight, before));
  EXPECT_THAT(report.missing, ElementsAre("model.2.weight", "model.2.bias"));
  EXPECT_THAT(report.unexpected, ElementsAre("model.0.bias"));
  EXPECT_THAT(report.restored, IsEmpty());
}

TEST_F(Conformance, load_nonstrict) {
  auto saved = torch::nn::Linear(2, 2);
  ASSERT_OK(Save(1, {{"model", saved},
                     {"shape", torch::nn::Linear(torch::nn::LinearOptions(2, 1).bias(false))}}));
  auto model = torch::nn::Linear(torch::nn::LinearOptions(2, 2).bias(false));
  auto other = torch::nn::Linear(3, 1);
  const at::Tensor bias = other->bias.detach().clone();
  const at::Tensor weight = other->weight.detach().clone();
  StateDict state{{"model", model}, {"absent", 17}, {"shape", other}};
  LoadOptions options;
  options.strict = false;
  options.mismatch = LoadOptions::Mismatch::kSkip;
  const auto result = Load(1, state, options);
  ASSERT_OK(result.status());
  EXPECT_TRUE(BitEqual(model->weight, saved->weight));
  EXPECT_TRUE(BitEqual(other->bias, bias));
  EXPECT_TRUE(BitEqual(other->weight, weight));
  EXPECT_EQ(*state["absent"].AsInt(), 17);
  EXPECT_THAT(result->report.restored, ElementsAre("model.weight"));
  EXPECT_THAT(result->report.missing, ElementsAre("absent", "shape.bias"));
  EXPECT_THAT(result->report.unexpected, ElementsAre("model.bias"));
  EXPECT_THAT(result->report.mismatched,
              ElementsAre("shape.weight: stored as F32 [1, 2], expected F32 [1, 3]"));
  EXPECT_TRUE(result->remainder.empty());
}

TEST_F(Conformance, load_shape_mismatch) {
  ASSERT_OK(Save(1, {{"a", torch::full({2}, 1.5f)}, {"b", torch::ones(3)}}));
  auto a = torch::zeros({2}, torch::kFloat64);
  auto b = torch::zeros(3);
  StateDict state{{"a", a}, {"b", b}};
  LoadOptions options;
  for (const bool strict : {true, false}) {
    options.strict = strict;
    const absl::Status status = Load(1, state, options).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("a: stored as F32 [2], expected F64 [2]"));
    EXPECT_TRUE(BitEqual(b, torch::zeros(3)));  // nothing was touched
  }
  options.mismatch = LoadOptions::Mismatch::kSkip;
  const auto skipped = Load(1, state, options);
  ASSERT_OK(skipped.status());
  EXPECT_TRUE(BitEqual(a, torch::zeros({2}, torch::kFloat64)));
  EXPECT_TRUE(BitEqual(b, torch::ones(3)));
  EXPECT_EQ(skipped->report.mismatched.size(), 1u);
  options.mismatch = LoadOptions::Mismatch::kCast;
  ASSERT_OK(Load(1, state, options).status());
  EXPECT_TRUE(BitEqual(a, torch::full({2}, 1.5, torch::kFloat64)));
  StateDict other_shape{{"b", torch::zeros(4)}};
  EXPECT_TRUE(absl::IsInvalidArgument(Load(1, other_shape, options).status()));
}

// By policy, whatever `strict` says: of those that match, the first that has a word to say.
TEST_F(Conformance, load_shape_mismatch_by_policy) {
  auto saved = torch::nn::Sequential(torch::nn::Linear(2, 3), torch::nn::Linear(3, 3));
  ASSERT_OK(Save(1, {{"body", saved}, {"head", torch::nn::Linear(3, 10)}}));
  auto body = torch::nn::Sequential(torch::nn::Linear(2, 3), torch::nn::Linear(3, 3));
  body->to(torch::kFloat64);
  auto head = torch::nn::Linear(torch::nn::LinearOptions(3, 4).bias(false));
  const at::Tensor weight = head->weight.detach().clone();
  StateDict state{{"body", body}, {"head", head}};
  EXPECT_TRUE(absl::IsInvalidArgument(Load(1, state).status()));
  LoadOptions options;
  options.policies = {{.glob = "head.weight", .mismatched = Action::kKeep},
                      {.glob = "head.**", .unexpected = Action::kKeep, .mismatched = Action::kSkip},
                      {.glob = "body.1.*", .mismatched = Action::kError},
                      {.glob = "**", .mismatched = Action::kCast}};
  const absl::Status status = Load(1, state, options).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("mismatched (2): body.1.weight: "));
  options.policies.erase(options.policies.begin() + 2);
  const auto loaded = Load(1, state, options);
  ASSERT_OK(loaded.status());
  EXPECT_TRUE(BitEqual(body->parameters()[3], saved->parameters()[3].to(torch::kFloat64)));
  EXPECT_TRUE(BitEqual(head->weight, weight));
  // Kept for the caller, who may know what to do with it.
  EXPECT_THAT(KeysOf(loaded->remainder), ElementsAre("head"));
  ASSERT_THAT(KeysOf(Dict(loaded->remainder, "head")), ElementsAre("weight", "bias"));
  EXPECT_EQ(Dict(loaded->remainder, "head").Find("weight")->AsTensor()->size(0), 10);
  options.policies[0].mismatched = Action::kSkip;
  const auto skipped = Load(1, state, options);
  ASSERT_OK(skipped.status());
  EXPECT_THAT(KeysOf(Dict(skipped->remainder, "head")), ElementsAre("bias"));
  options.policies = {{.glob = "(", .match = v1::LeafMatch()}};
  EXPECT_TRUE(absl::IsInvalidArgument(Load(1, state, options).status()));  // says nothing
}

// Missing, unexpected, mismatched and unreadable: one error has it all, and nothing was touched.
TEST_F(Conformance, load_all_or_nothing) {
  const std::vector<float> floats(8, 1.5f);
  const std::vector<uint16_t> shorts(4, 7);
  Part part;  // rank 0 of 2, the other rank's half is on another node
  part.world_size = 2;
  part.share = {0};
  part.leaves = {
      TensorLeaf(MakeKey({"model", "weight"}), v1::DTYPE_F32, {2, 2}, floats.data()),
      TensorLeaf(MakeKey({"model", "extra"}), v1::DTYPE_F32, {2}, floats.data()),
      TensorLeaf(MakeKey({"shape"}), v1::DTYPE_F32, {2}, floats.data()),
      TensorLeaf(MakeKey({"placeholder"}), v1::DTYPE_U16, {4}, shorts.data()),
      ShardLeaf(MakeKey({"half"}), v1::DTYPE_F32, {4, 2}, {{0, 0}, {2, 2}}, floats.data())};
  auto checkpointer = Connect();
  auto save = checkpointer->client().Save({kConformanceRun, 1, launch_}, part, {});
  ASSERT_OK(save.status());
  ASSERT_OK(save->AwaitCommitted(absl::Minutes(1)));
  auto model = torch::nn::Linear(2, 2);
  const at::Tensor weight = model->weight.detach().clone();
  auto half = torch::zeros({4, 2});
  StateDict state{{"model", model},
                  {"shape", torch::zeros(3)},
                  {"placeholder", nullptr},
                  {"half", half},
                  {"halff", 1}};
  const absl::Status status = checkpointer->Load(1, state).status();
  const std::string text(status.message());
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(text, HasSubstr("halff (nearest: half)"));
  EXPECT_THAT(text, HasSubstr("model.bias"));
  EXPECT_THAT(text, HasSubstr("unexpected in the checkpoint (1): model.extra"));
  EXPECT_THAT(text, HasSubstr("mismatched (1): shape: stored as F32 [2], expected F32 [3]"));
  EXPECT_THAT(text, HasSubstr("half [0:4, 0:2]"));
  EXPECT_THAT(text, HasSubstr("hold 4 of 8 elements"));
  const bool has_shorts = ScalarTypeOf(v1::DTYPE_U16).ok();
  EXPECT_EQ(text.find("has no dtype U16") == std::string::npos, has_shorts) << text;
  EXPECT_THAT(text, HasSubstr("Nothing was changed"));
  EXPECT_TRUE(BitEqual(model->weight, weight));
  EXPECT_TRUE(BitEqual(half, torch::zeros({4, 2})));
  EXPECT_TRUE(state["placeholder"].is_null());
  // What lies elsewhere, alone.
  StateDict only{{"half", half}, {"shape", torch::zeros(2)}};
  const absl::Status uncovered = checkpointer->Load(1, only).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(uncovered)) << uncovered;
  EXPECT_THAT(std::string(uncovered.message()), HasSubstr("Nothing was changed"));
  EXPECT_TRUE(BitEqual(TensorAt(only, "shape"), torch::zeros(2)));
  // The half that is here.
  StateDict here{{"half", Sharded{torch::zeros({2, 2}), {4, 2}, {0, 0}}}};
  ASSERT_OK(checkpointer->Load(1, here).status());
}

// A data file that is gone is told with the rest, and what did not lie in it can be had.
TEST_F(Conformance, load_all_or_nothing_with_a_lost_file) {
  const at::Tensor wide = torch::arange(8, torch::kFloat).reshape({4, 2});
  const auto state_of = [&](int64_t rank) {
    return StateDict{{"model", StateDict{{"weight", torch::ones({2, 2})}, {"extra", torch::ones(2)}}},
                     {"shape", torch::ones(2)},
                     {"wide", Sharded{wide.slice(0, 2 * rank, 2 * rank + 2).clone(), {4, 2},
                                      {2 * rank, 0}}}};
  };
  ASSERT_OK(Save(1, {state_of(0), state_of(1)}));
  ForgetMemory();
  ASSERT_TRUE(std::filesystem::remove(PlaceOf(wide.slice(0, 2, 4)).path));

  auto model = torch::nn::Linear(2, 2);
  const at::Tensor weight = model->weight.detach().clone();
  auto whole = torch::zeros({4, 2});
  StateDict state{{"model", model}, {"shape", torch::zeros(3)}, {"wide", whole}, {"wider", 1}};
  LoadReport report;
  LoadOptions options;
  options.report = &report;
  const absl::Status status = Load(1, state, options, 0, 2).status();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  const std::string text(status.message());
  EXPECT_THAT(text, HasSubstr("wider (nearest: wide)"));
  EXPECT_THAT(text, HasSubstr("unexpected in the checkpoint (1): model.extra"));
  EXPECT_THAT(text, HasSubstr("mismatched (1): shape: stored as F32 [2], expected F32 [3]"));
  EXPECT_THAT(text, HasSubstr("wide [2:4, 0:2]"));
  EXPECT_THAT(text, HasSubstr(".safetensors is missing on disk"));
  EXPECT_THAT(text, HasSubstr("Nothing was changed"));
  EXPECT_THAT(report.damaged, Contains("wide"));
  EXPECT_THAT(report.restored, IsEmpty());
  EXPECT_TRUE(BitEqual(model->weight, weight));
  EXPECT_TRUE(BitEqual(whole, torch::zeros({4, 2})));
  // Alone.
  StateDict only{{"wide", whole}};
  const absl::Status lost = Load(1, only, options, 0, 2).status();
  EXPECT_TRUE(absl::IsDataLoss(lost)) << lost;
  EXPECT_THAT(std::string(lost.message()), HasSubstr("Nothing was changed"));
  EXPECT_THAT(report.damaged, ElementsAre("wide"));
  EXPECT_TRUE(BitEqual(whole, torch::zeros({4, 2})));
  // The half that the other file holds.
  StateDict here{{"wide", Sharded{torch::zeros({2, 2}), {4, 2}, {0, 0}}}};
  ASSERT_OK(Load(1, here, options, 0, 2).status());
  EXPECT_THAT(report.damaged, IsEmpty());
}

// What is lost may be so where a policy says it: the caller's own stays, and the report tells.
TEST_F(Conformance, load_all_or_nothing_but_for_what_may_be_lost) {
  const at::Tensor wide = torch::arange(8, torch::kFloat).reshape({4, 2});
  const auto state_of = [&](int64_t rank) {
    return StateDict{{"own", torch::full({2}, static_cast<double>(rank + 1))},
                     {"wide", Sharded{wide.slice(0, 2 * rank, 2 * rank + 2).clone(), {4, 2},
                                      {2 * rank, 0}}}};
  };
  ASSERT_OK(Save(1, {state_of(0), state_of(1)}));
  ForgetMemory();
  ASSERT_TRUE(std::filesystem::remove(PlaceOf(wide.slice(0, 2, 4)).path));
  auto own = torch::zeros(2);
  auto whole = torch::full({4, 2}, 9.0f);
  StateDict state{{"own", own}, {"wide", whole}};
  LoadOptions options;
  for (const Action action : {Action::kSkip, Action::kKeep}) {
    own.zero_();
    options.policies = {{.glob = "wide", .unreadable = action}};
    const auto loaded = Load(1, state, options, 0, 2);
    ASSERT_OK(loaded.status());
    EXPECT_TRUE(BitEqual(own, torch::ones(2)));
    EXPECT_TRUE(BitEqual(whole, torch::full({4, 2}, 9.0f)));
    EXPECT_THAT(loaded->report.restored, ElementsAre("own"));
    EXPECT_THAT(loaded->report.unreadable,
                ElementsAre(::testing::AllOf(::testing::StartsWith("wide: "),
                                             HasSubstr("is missing on disk"))));
    EXPECT_THAT(loaded->report.damaged, IsEmpty());
    if (action == Action::kSkip) {
      EXPECT_TRUE(loaded->remainder.empty());
      continue;
    }
    ASSERT_THAT(KeysOf(loaded->remainder), ElementsAre("wide"));
    EXPECT_TRUE(absl::IsDataLoss(loaded->remainder.Find("wide")->AsTensor().status()));
  }
  // What is made anew has nothing in its place.
  StateDict placeholder{{"wide", "mine"}};
  ASSERT_OK(Load(1, placeholder, options, 0, 2).status());
  EXPECT_EQ(*placeholder["wide"].AsString(), "mine");
  const auto raw = Connect(0, 2)->Load(1, options);
  ASSERT_OK(raw.status());
  EXPECT_TRUE(raw->Find("wide")->is_null());
  EXPECT_TRUE(BitEqual(TensorAt(*raw, "own"), torch::ones(2)));
  // An error where nothing, or something else, may be lost.
  own.zero_();
  options.policies = {{.glob = "own", .unreadable = Action::kSkip}};
  options.strict = false;
  const absl::Status lost = Load(1, state, options, 0, 2).status();
  EXPECT_TRUE(absl::IsDataLoss(lost)) << lost;
  EXPECT_THAT(std::string(lost.message()), HasSubstr("Nothing was changed"));
  EXPECT_TRUE(BitEqual(own, torch::zeros(2)));
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
