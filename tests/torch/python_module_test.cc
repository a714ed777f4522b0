// What PyTorch's Python wrote as safetensors is imported, and LibTorch loads it into a module.
#include <string>
#include <vector>

#include "tests/torch/python_test.h"
#include "tests/torch/torch_test.h"

namespace ckpt::testing {
namespace {

class PythonWritesIt : public PythonTest {
 protected:
  // Saved as python@1; returns what Python says about it.
  TensorResults Import(const std::string& metadata) {
    const std::string file = scratch_ / "model.safetensors";
    const std::string results = scratch_ / "results";
    std::vector<std::string> words = {"python_writes_it.py", file, results};
    if (!metadata.empty()) words.push_back(metadata);
    Python(words);
    Ckptctl({"checkpoint", "import", "python@1", file});
    return ReadResults(results);
  }
  static void CheckModel(torch::nn::Sequential& model, const TensorResults& python) {
    const TensorResults here = ResultsOf(model);
    for (const auto& [name, tensor] : here) {
      ASSERT_TRUE(python.contains(name)) << name;
      EXPECT_TRUE(torch::equal(tensor, python.at(name))) << name;
    }
    EXPECT_EQ(here.size() + 1, python.size());  // the output is no tensor of the state
    model->eval();
    const at::Tensor output = model->forward(torch::ones({2, 5})).detach().flatten();
    EXPECT_TRUE(torch::allclose(output.to(torch::kFloat64), python.at("output"), 1e-5, 1e-6));
  }
};

TEST_F(PythonWritesIt, AModuleLoadsTheImportedStateDict) {
  const auto python = Import("");
  auto model = SmallModel(9);  // of the shape of Python's
  const auto loaded = checkpointer_->LoadObject(1, model);
  ASSERT_OK(loaded.status());
  EXPECT_TRUE(loaded->remainder.empty());
  CheckModel(model, python);
}

// The flat names are keys of one dictionary, not paths: {"model", module} is not among them.
TEST_F(PythonWritesIt, FlatNamesAreNoPaths) {
  Import("");
  auto model = SmallModel(9);
  StateDict state{{"model", model}};
  const absl::Status status = checkpointer_->Load(1, state).status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  const auto raw = checkpointer_->Load(1);
  ASSERT_OK(raw.status());
  EXPECT_TRUE(raw->contains("0.weight"));
}

// What libraries write beside the tensors comes along as text.
TEST_F(PythonWritesIt, MetadataIsKeptBesideTheTensors) {
  const auto python = Import(R"({"format": "pt", "note": "\u00e9"})");
  auto model = SmallModel(9);
  const auto loaded = checkpointer_->LoadObject(1, model);  // strict: they are no parameters
  ASSERT_OK(loaded.status());
  EXPECT_THAT(loaded->report.missing, ::testing::IsEmpty());
  EXPECT_THAT(loaded->report.mismatched, ::testing::IsEmpty());
  EXPECT_THAT(loaded->report.unexpected, ::testing::IsEmpty());
  EXPECT_THAT(KeysOf(loaded->remainder), ::testing::ElementsAre("__metadata__"));
  EXPECT_EQ(*Dict(loaded->remainder, "__metadata__").Find("format")->AsString(), "pt");
  CheckModel(model, python);
  const auto raw = checkpointer_->Load(1);
  ASSERT_OK(raw.status());
  const StateDict& metadata = Dict(*raw, "__metadata__");
  EXPECT_EQ(*metadata.Find("format")->AsString(), "pt");
  EXPECT_EQ(*metadata.Find("note")->AsString(), "\u00e9");
}

}  // namespace
}  // namespace ckpt::testing
