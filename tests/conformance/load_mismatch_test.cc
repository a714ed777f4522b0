// What a load does where state and checkpoint differ: keys that one of them lacks, other shapes and
// dtypes, bytes that cannot be read.
#include "client/torch/tensor_bytes.h"
#include "common/key.h"
#include "tests/conformance/conformance_test.h"

namespace ckpt::testing {
namespace {

using Action = LoadPolicy::Action;

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
  const auto cast = Load(1, state, options);
  ASSERT_OK(cast.status());
  EXPECT_TRUE(BitEqual(a, torch::full({2}, 1.5, torch::kFloat64)));
  EXPECT_THAT(cast->report.cast, ElementsAre("a: F32 to F64"));
  EXPECT_THAT(cast->report.restored, ElementsAre("a", "b"));
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
    return StateDict{
        {"model", StateDict{{"weight", torch::ones({2, 2})}, {"extra", torch::ones(2)}}},
        {"shape", torch::ones(2)},
        {"wide", Sharded{wide.slice(0, 2 * rank, 2 * rank + 2).clone(), {4, 2}, {2 * rank, 0}}}};
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

}  // namespace
}  // namespace ckpt::testing
