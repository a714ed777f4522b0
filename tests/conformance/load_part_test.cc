// Loading a part costs that part: the bytes that are read, and the plan. A part may be a box.
#include "common/key.h"
#include "tests/conformance/conformance_test.h"

namespace ckpt::testing {
namespace {

TEST_F(Conformance, load_partial_cost) {
  constexpr uint64_t kBlock = 1 << 20;
  StateDict saved;
  for (int i = 0; i < 8; ++i) {
    saved[absl::StrCat("layer", i)] = torch::full({1024, 1024}, i + 0.5f);  // 4 MiB each
  }
  ASSERT_OK(Save(1, saved));
  for (const bool from_disk : {false, true}) {
    if (from_disk) ForgetMemory();
    // One tensor of eight.
    auto whole = torch::zeros({1024, 1024});
    StateDict one{{"layer5", whole}};
    const auto tensor = Load(1, one);
    ASSERT_OK(tensor.status());
    EXPECT_EQ(whole[1023][1023].item<float>(), 5.5f);
    EXPECT_EQ(tensor->report.bytes.bytes_asked, 4 * kBlock);
    EXPECT_LE(tensor->report.bytes.bytes_read, 4 * kBlock * 102 / 100);
    // Some rows of one.
    Sharded rows{torch::zeros({500, 1024}), {1024, 1024}, {123, 0}};
    StateDict part{{"layer3", rows}};
    const auto slice = Load(1, part);
    ASSERT_OK(slice.status());
    EXPECT_EQ(rows.local[499][1023].item<float>(), 3.5f);
    EXPECT_EQ(slice->report.bytes.bytes_asked, rows.local.nbytes());
    EXPECT_LE(slice->report.bytes.bytes_read, rows.local.nbytes() * 102 / 100 + 2 * kBlock);
    EXPECT_EQ(slice->report.bytes.bytes_from_disk > 0, from_disk);
  }
}

constexpr auto kDrop = LoadOptions::Remainder::kDrop;
constexpr uint64_t kLeavesOfBlocks = 2 * 20 + 2 + 2;  // blocks, head, t and n

StateDict BlocksAnd(const torch::nn::Linear& head) {
  StateDict blocks;
  for (int i = 0; i < 20; ++i) blocks[absl::StrCat("block", i)] = torch::nn::Linear(3, 2);
  return {{"nets", StateDict{{"blocks", blocks}, {"head", head}}},
          {"t", torch::ones(5)},
          {"n", 1}};
}

StateDict Block(const char* name, StateValue value) {
  return {{"nets", StateDict{{"blocks", StateDict{{name, std::move(value)}}}}}};
}

// The plan, too, is of the part: the rest is not even listed.
TEST_F(Conformance, load_partial_cost_of_the_plan) {
  ASSERT_OK(Save(1, BlocksAnd(torch::nn::Linear(2, 1))));
  const auto planned = [&](StateDict state, const LoadOptions& options) {
    const auto loaded = Load(1, state, options);
    EXPECT_OK(loaded.status());
    return loaded.ok() ? loaded->report.planned.leaves() : 0;
  };
  LoadOptions drop;
  drop.remainder = kDrop;
  EXPECT_EQ(planned({{"t", torch::zeros(5)}}, drop), 1u);
  EXPECT_EQ(planned({{"t", torch::zeros(5)}, {"n", 0}}, drop), 2u);
  EXPECT_EQ(planned(Block("block1", torch::nn::Linear(3, 2)), drop), 2u);
  EXPECT_EQ(planned({{"nets", StateDict{{"blocks", StateDict()}}}}, drop), 40u);
  EXPECT_EQ(planned({{"t", torch::zeros(5)}}, {}), kLeavesOfBlocks);  // the remainder lists all
  // What is renamed is looked for among all that may be it.
  drop.renames = {Rename::Prefix("block", "b").In("nets.blocks")};
  EXPECT_EQ(planned(Block("b7", torch::nn::Linear(3, 2)), drop), 40u);
  drop.renames = {Rename::Prefix("t", "tensor").In("")};
  EXPECT_EQ(planned({{"tensor", torch::zeros(5)}}, drop), kLeavesOfBlocks);
}

TEST_F(Conformance, load_partial_cost_of_a_path) {
  auto saved = torch::nn::Linear(2, 1);
  ASSERT_OK(Save(1, BlocksAnd(saved)));
  auto head = torch::nn::Linear(2, 1);
  const auto loaded = Connect()->LoadObject(1, head, {"nets", "head"});
  ASSERT_OK(loaded.status());
  ExpectSameModule(*head, *saved);
  EXPECT_EQ(loaded->report.planned.leaves(), 2u);
  EXPECT_EQ(loaded->report.planned.bytes(), 3 * sizeof(float));
  EXPECT_TRUE(loaded->remainder.empty());
  const StateDict weight{{"weight", torch::zeros({1, 2})}};
  const auto part = Connect()->LoadObject(1, weight, {"nets", "head"});
  ASSERT_OK(part.status());
  EXPECT_EQ(part->report.planned.leaves(), 2u);
  EXPECT_THAT(KeysOf(Dict(Dict(part->remainder, "nets"), "head")), ElementsAre("bias"));
}

// Whoever keeps the remainder has a plan of everything: he and who drops it are told the same.
TEST_F(Conformance, load_partial_cost_does_not_change_what_is_told) {
  ASSERT_OK(Save(1, BlocksAnd(torch::nn::Linear(2, 1))));
  auto without_bias = torch::nn::Linear(torch::nn::LinearOptions(2, 1).bias(false));
  const std::vector<StateDict> states = {
      {{"tt", torch::zeros(5)}},
      {{"t", torch::zeros(5)}, {"nots", torch::nn::Linear(1, 1)}},
      {{"t", torch::zeros(6)}},
      {{"t", StateDict{{"x", torch::zeros(1)}}}},
      {{"t", torch::nn::Linear(1, 1)}},
      {{"n", torch::zeros(1)}},
      {{"nets", torch::zeros(1)}},
      {{"nets", StateDict{{"head", without_bias}}}},
      {{"nets", StateDict{{"heads", without_bias}, {"blocks", StateDict()}}}},
      {{"nets", StateDict{{"head", StateDict{{"weigh", torch::zeros(1)}}}}}},
      Block("block20", torch::nn::Linear(3, 2)),
      Block("block2", torch::nn::Linear(3, 1))};
  for (const StateDict& state : states) {
    for (const bool strict : {true, false}) {
      StateDict mine = state;
      LoadReport kept;
      LoadReport dropped;
      LoadOptions options;
      options.strict = strict;
      options.report = &kept;
      const absl::Status expected = Load(1, mine, options).status();
      EXPECT_FALSE(strict && expected.ok());
      options.remainder = kDrop;
      options.report = &dropped;
      EXPECT_EQ(Load(1, mine, options).status(), expected);
      EXPECT_EQ(dropped.missing, kept.missing) << expected;
      EXPECT_EQ(dropped.unexpected, kept.unexpected) << expected;
      EXPECT_EQ(dropped.mismatched, kept.mismatched) << expected;
      EXPECT_EQ(dropped.restored, kept.restored) << expected;
    }
  }
  const absl::Status path =
      Connect()->LoadObject(1, without_bias, {"nets", "heads"}).status();
  EXPECT_TRUE(absl::IsNotFound(path)) << path;
  EXPECT_THAT(std::string(path.message()), HasSubstr("nets.heads (nearest: head)"));
}

// More keys than one request can name: by the entries of the caller's top level.
TEST_F(Conformance, load_partial_cost_of_more_keys_than_a_request_holds) {
  constexpr int kTensors = 1100;  // with names of 4000 bytes: more than 4 MiB
  const auto net = [](float value) {
    StateDict tensors;
    for (int i = 0; i < kTensors; ++i) {
      tensors[absl::StrCat(i, std::string(4000, 'n'))] = torch::full({1}, value);
    }
    return tensors;
  };
  ASSERT_OK(Save(1, {{"net", net(1)}, {"other", torch::ones(3)}}));
  StateDict state{{"net", net(0)}};
  LoadOptions options;
  options.remainder = kDrop;
  const auto loaded = Load(1, state, options);
  ASSERT_OK(loaded.status());
  EXPECT_EQ(loaded->report.planned.leaves(), static_cast<uint64_t>(kTensors));
  EXPECT_EQ(loaded->report.restored.size(), static_cast<size_t>(kTensors));
  for (const StateEntry& entry : Dict(state, "net")) {
    EXPECT_EQ(entry.value.If<at::Tensor>()->item<float>(), 1.0f);
  }
}

TEST_F(Conformance, load_raw_all_of_a_slice) {
  const at::Tensor table = torch::arange(40, torch::kFloat).reshape({10, 4});
  ASSERT_OK(Save(1, {{"table", table}, {"twin", table}, {"other", torch::ones(3)}}));
  const at::Tensor rows = table.slice(0, 2, 7).slice(1, 1, 3);
  LoadOptions options;
  const auto add_slice = [&options](const Box& box) {
    v1::Selection::Slice& slice = *options.restore.selection.add_slices();
    *slice.mutable_key() = MakeKey({"table"});
    box.ToProto(slice.mutable_box());
  };
  add_slice({{2, 1}, {5, 2}});
  const auto raw = LoadAll(1, options);
  ASSERT_OK(raw.status());
  EXPECT_TRUE(BitEqual(TensorAt(*raw, "table"), rows));
  EXPECT_TRUE(BitEqual(TensorAt(*raw, "twin"), table));  // the same storage, asked for whole
  EXPECT_TRUE(BitEqual(TensorAt(*raw, "other"), torch::ones(3)));
  // In a remainder, in a placeholder's place, and in a tensor of the box's shape.
  StateDict nothing;
  const auto lazy = Load(1, nothing, options);
  ASSERT_OK(lazy.status());
  const StoredTensor* stored = lazy->remainder.Find("table")->If<StoredTensor>();
  ASSERT_NE(stored, nullptr);
  EXPECT_THAT(stored->shape(), ElementsAre(5, 2));
  const auto read = stored->Read();
  ASSERT_OK(read.status());
  EXPECT_TRUE(BitEqual(*read, rows));
  const StateDict object{{"table", torch::zeros({5, 2})}};
  ASSERT_OK(Connect()->LoadObject(1, object, {}, options).status());
  EXPECT_TRUE(BitEqual(TensorAt(object, "table"), rows));
  StateDict placeholder{{"table", nullptr}};
  ASSERT_OK(Load(1, placeholder, options).status());
  EXPECT_TRUE(BitEqual(TensorAt(placeholder, "table"), rows));
  // A rank that has nothing of it wants nothing beside the slice either.
  StateDict empty{{"table", Sharded{torch::zeros({0, 4}), {10, 4}, {0, 0}}}};
  EXPECT_OK(Load(1, empty, options).status());
  // The whole of it cannot come from a slice, though all of this small one is in a stored block.
  StateDict whole{{"table", torch::zeros({10, 4})}, {"other", torch::zeros(3)}};
  const absl::Status more = Load(1, whole, options).status();
  EXPECT_TRUE(absl::IsInvalidArgument(more)) << more;
  EXPECT_THAT(std::string(more.message()),
              HasSubstr("table: a slice of the selection takes [2:7,"));
  EXPECT_TRUE(BitEqual(TensorAt(whole, "other"), torch::zeros(3)));
  add_slice({{0, 0}, {1, 4}});
  const absl::Status two = LoadAll(1, options).status();
  EXPECT_TRUE(absl::IsInvalidArgument(two)) << two;
  EXPECT_THAT(std::string(two.message()), HasSubstr("table: the selection has 2 slices of it"));
}

// More than one block: what lies outside of the box is not in the plan.
TEST_F(Conformance, load_raw_all_of_a_slice_of_many_blocks) {
  const at::Tensor big = torch::arange(1 << 20, torch::kFloat).reshape({1024, 1024});
  ASSERT_OK(Save(1, {{"big", big}}));
  LoadOptions options;
  v1::Selection::Slice& slice = *options.restore.selection.add_slices();
  *slice.mutable_key() = MakeKey({"big"});
  (Box{{600, 0}, {100, 1024}}).ToProto(slice.mutable_box());
  const auto raw = LoadAll(1, options);
  ASSERT_OK(raw.status());
  EXPECT_TRUE(BitEqual(TensorAt(*raw, "big"), big.slice(0, 600, 700)));
}

}  // namespace
}  // namespace ckpt::testing
