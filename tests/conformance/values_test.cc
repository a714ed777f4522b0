// Which tensors, values and keys come back, and that they are the same bits and the same types.
#include <cmath>
#include <limits>

#include "client/torch/tensor_bytes.h"
#include "tests/conformance/conformance_test.h"

namespace ckpt::testing {
namespace {

// Every dtype that checkpoints know and this LibTorch has; complex64 is stored as C64, the pair of
// float32s that LibTorch keeps.
std::vector<c10::ScalarType> Types() {
  std::vector<c10::ScalarType> types;
  for (int i = 1; i <= v1::DType_MAX; ++i) {
    if (!v1::DType_IsValid(i)) continue;
    const auto type = ScalarTypeOf(static_cast<v1::DType>(i));
    if (type.ok()) types.push_back(*type);
  }
  return types;
}

// Every byte value, and so NaNs, infinities and denormals of every kind.
at::Tensor Sample(c10::ScalarType type) {
  const at::Tensor bytes = torch::arange(0, 256, torch::kInt64).to(torch::kUInt8);
  return type == c10::ScalarType::Bool ? bytes.gt(127) : bytes.view(type);
}

TEST_F(Conformance, values_dtypes) {
  EXPECT_GE(Types().size(), 11u);
  EXPECT_EQ(*DTypeOf(c10::ScalarType::ComplexFloat), v1::DTYPE_C64);
  StateDict saved;
  StateDict state;
  for (const c10::ScalarType type : Types()) {
    const std::string name = c10::toString(type);
    saved[name] = Sample(type);
    state[name] = torch::zeros_like(Sample(type));
  }
  ASSERT_OK(Save(1, saved));
  ASSERT_OK(Load(1, state).status());
  const auto raw = LoadAll(1);
  ASSERT_OK(raw.status());
  EXPECT_EQ(KeysOf(*raw), KeysOf(saved));
  for (const StateEntry& entry : saved) {
    const at::Tensor& wanted = *entry.value.If<at::Tensor>();
    EXPECT_TRUE(BitEqual(TensorAt(state, entry.key), wanted)) << entry.key.ToString();
    EXPECT_TRUE(BitEqual(TensorAt(*raw, entry.key), wanted)) << entry.key.ToString();
  }
  // What a checkpoint has no dtype for is refused with its key.
  const absl::Status refused =
      Connect()->Save(2, {{"x", torch::ones(2, torch::kComplexDouble)}}).status();
  EXPECT_TRUE(absl::IsInvalidArgument(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("x: "));
}

TEST_F(Conformance, values_shapes) {
  StateDict saved;
  StateDict state;
  for (const c10::ScalarType type : Types()) {
    const std::string name = c10::toString(type);
    saved[name + " scalar"] = Sample(type)[1].clone();
    saved[name + " none"] = torch::empty({0}, type);
    saved[name + " none of rows"] = torch::empty({3, 0, 2}, type);
  }
  for (const StateEntry& entry : saved) {
    state[entry.key] = torch::zeros_like(*entry.value.If<at::Tensor>());
  }
  ASSERT_OK(Save(1, saved));
  ASSERT_OK(Load(1, state).status());
  const auto raw = LoadAll(1);
  ASSERT_OK(raw.status());
  for (const StateEntry& entry : saved) {
    EXPECT_TRUE(BitEqual(TensorAt(state, entry.key), *entry.value.If<at::Tensor>()))
        << entry.key.ToString();
    EXPECT_TRUE(BitEqual(TensorAt(*raw, entry.key), *entry.value.If<at::Tensor>()))
        << entry.key.ToString();
  }
}

TEST_F(Conformance, values_views) {
  auto base = torch::arange(24.0f).view({2, 3, 4});
  const std::vector<at::Tensor> views = {
      base.permute({2, 0, 1}),                            // turned
      torch::arange(10.0f).slice(0, 1, 9, 3),             // every third
      torch::arange(3.0f).expand({4, 3}),                 // stride zero
      torch::arange(6.0f).view({2, 3}).select(1, 1),      // a column
      torch::arange(4.0f).as_strided({2, 2}, {1, 1}),     // overlapping itself
      torch::view_as_complex(torch::rand({4, 2})).conj()  // lazily conjugated
  };
  StateList list;
  for (const at::Tensor& view : views) list.Add(view);
  ASSERT_OK(Save(1, {{"views", list}}));
  const auto raw = LoadAll(1);
  ASSERT_OK(raw.status());
  ASSERT_EQ(List(*raw, "views").size(), views.size());
  for (size_t i = 0; i < views.size(); ++i) {
    EXPECT_TRUE(torch::equal(*List(*raw, "views")[i].AsTensor(), views[i])) << i;
  }
  // Into a view as well: a transposed one, and one whose neighbours stay as they are.
  auto turned = torch::zeros({2, 3, 4}).permute({2, 0, 1});
  auto around = torch::full({5, 5}, -1.0f);
  auto column = around.slice(1, 1, 2).squeeze(1).slice(0, 0, 3);
  StateDict state{{"views", StateList{turned, column}}};
  ASSERT_OK(Load(1, state).status());
  EXPECT_TRUE(torch::equal(turned, views[0]));
  EXPECT_TRUE(torch::equal(column, views[1]));
  EXPECT_EQ(around.eq(-1).sum().item<int64_t>(), 22);
}

TEST_F(Conformance, values_keys) {
  const std::vector<std::string> names = {
      "with.dots",        "a/b", "../../etc/passwd", "\xc3\xa9", "\xe6\xbc\xa2\xe5\xad\x97",
      "\xf0\x9f\xa6\x86", " ",   "__metadata__",     "quote\"s", "tab\tnew\nline",
      "back\\slash"};
  StateDict inner;
  StateDict saved;
  double value = 0;
  for (const std::string& name : names) {
    inner[name] = torch::full({2}, ++value);
    saved[name] = static_cast<int64_t>(value);
  }
  saved["inner"] = inner;
  saved["numbers"] = StateDict{{"1", "name"}, {2, "number"}};
  ASSERT_OK(Save(1, saved));
  const auto raw = LoadAll(1);
  ASSERT_OK(raw.status());
  EXPECT_EQ(KeysOf(*raw), KeysOf(saved));
  for (const StateEntry& entry : inner) {
    EXPECT_TRUE(BitEqual(TensorAt(Dict(*raw, "inner"), entry.key), *entry.value.If<at::Tensor>()))
        << entry.key.ToString();
  }
  EXPECT_EQ(*Dict(*raw, "numbers").Find("1")->AsString(), "name");
  EXPECT_EQ(*Dict(*raw, "numbers").Find(2)->AsString(), "number");
  // Two that print alike would be one to everybody who looks.
  const absl::Status alike = Connect()->Save(2, {{"a.b", 1}, {"a", StateDict{{"b", 2}}}}).status();
  EXPECT_TRUE(absl::IsInvalidArgument(alike)) << alike;
  EXPECT_THAT(std::string(alike.message()), HasSubstr("a.b"));
}

TEST_F(Conformance, values_plain) {
  const std::string long_text(10000, 'x');
  const StateDict saved{{"null", nullptr},
                        {"yes", true},
                        {"no", false},
                        {"int", std::numeric_limits<int64_t>::min()},
                        {"large", std::numeric_limits<int64_t>::max()},
                        {"one", 1},
                        {"one point", 1.0},
                        {"nan", std::numeric_limits<double>::quiet_NaN()},
                        {"inf", -std::numeric_limits<double>::infinity()},
                        {"zero", -0.0},
                        {"tiny", std::numeric_limits<double>::denorm_min()},
                        {"text", "\xc3\xa9.\xe2\x82\xac/"},
                        {"empty", ""},
                        {"bytes", Bytes{std::string("\0\xff", 2)}},
                        {"long", long_text},
                        {"blob", Bytes{std::string(5000, '\xfe')}},
                        {"list", StateList{1, 2.0, "three", StateList(), StateDict()}}};
  ASSERT_OK(Save(1, saved));
  const auto raw = LoadAll(1);
  ASSERT_OK(raw.status());
  EXPECT_EQ(KeysOf(*raw), KeysOf(saved));
  EXPECT_TRUE(raw->Find("null")->is_null());
  EXPECT_EQ(*raw->Find("yes")->If<bool>(), true);
  EXPECT_EQ(*raw->Find("no")->If<bool>(), false);
  EXPECT_EQ(*raw->Find("int")->If<int64_t>(), std::numeric_limits<int64_t>::min());
  EXPECT_EQ(*raw->Find("large")->If<int64_t>(), std::numeric_limits<int64_t>::max());
  EXPECT_NE(raw->Find("one")->If<int64_t>(), nullptr);
  EXPECT_NE(raw->Find("one point")->If<double>(), nullptr);
  EXPECT_TRUE(std::isnan(*raw->Find("nan")->If<double>()));
  EXPECT_EQ(*raw->Find("inf")->If<double>(), -std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::signbit(*raw->Find("zero")->If<double>()));
  EXPECT_EQ(*raw->Find("tiny")->If<double>(), std::numeric_limits<double>::denorm_min());
  EXPECT_EQ(*raw->Find("text")->If<std::string>(), "\xc3\xa9.\xe2\x82\xac/");
  EXPECT_EQ(*raw->Find("empty")->If<std::string>(), "");
  EXPECT_EQ(raw->Find("bytes")->If<Bytes>()->data, std::string("\0\xff", 2));
  EXPECT_EQ(*raw->Find("long")->If<std::string>(), long_text);
  EXPECT_EQ(raw->Find("blob")->If<Bytes>()->data, std::string(5000, '\xfe'));
  EXPECT_NE(List(*raw, "list")[1].If<double>(), nullptr);
  EXPECT_NE(List(*raw, "list")[3].If<StateList>(), nullptr);
  EXPECT_NE(List(*raw, "list")[4].If<StateDict>(), nullptr);
}

}  // namespace
}  // namespace ckpt::testing
