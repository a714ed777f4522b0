// PyTorch's Python reads what LibTorch saved: the data file as safetensors, the optimizer through
// load_state_dict, and the next step gives the same parameters. And the other way: what Python
// wrote as safetensors or with torch.save is imported, and LibTorch loads it.
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "tests/fixtures/daemon.h"
#include "tests/fixtures/process.h"
#include "tests/torch/torch_test.h"

namespace ckpt::testing {
namespace {

constexpr char kPython[] = "/usr/bin/python3";

std::string HexFloats(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.detach().flatten();
  std::vector<std::string> texts;
  for (int64_t i = 0; i < flat.numel(); ++i) {
    texts.push_back(absl::StrFormat("%a", flat[i].item<float>()));
  }
  return absl::StrJoin(texts, ",");
}

// Runs it to its end; its output is the test's.
void RunToSuccess(std::vector<std::string> words) {
  const absl::StatusOr<CommandResult> result = RunCommand(words, {}, absl::Minutes(1));
  ASSERT_OK(result.status());
  ASSERT_EQ(result->exit_status, 0) << absl::StrJoin(words, " ") << "\n"
                                    << result->output << result->errors;
}

class PythonTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto daemon = Daemon::Start();
    ASSERT_OK(daemon.status());
    daemon_ = *std::move(daemon);
    CheckpointerOptions options;
    options.client.socket = daemon_->socket();
    options.run = "python";
    auto checkpointer = Checkpointer::Connect(options);
    ASSERT_OK(checkpointer.status());
    checkpointer_ = *std::move(checkpointer);
  }

  std::unique_ptr<Daemon> daemon_;
  std::unique_ptr<Checkpointer> checkpointer_;
};

// --- from LibTorch to Python

struct Optimizer {
  const char* name;  // of the class, in Python too
  std::unique_ptr<torch::optim::Optimizer> (*make)(std::vector<at::Tensor> parameters);
};

void PrintTo(const Optimizer& optimizer, std::ostream* out) { *out << optimizer.name; }

template <typename Class, typename Options>
std::unique_ptr<torch::optim::Optimizer> Make(std::vector<at::Tensor> parameters,
                                              const Options& options) {
  return std::make_unique<Class>(std::move(parameters), options);
}

// With everything switched on that keeps a tensor for each parameter.
const Optimizer kOptimizers[] = {
    {"SGD",
     [](std::vector<at::Tensor> parameters) {
       return Make<torch::optim::SGD>(
           std::move(parameters),
           torch::optim::SGDOptions(0.125).momentum(0.75).dampening(0.25).weight_decay(0.01));
     }},
    {"Adam",
     [](std::vector<at::Tensor> parameters) {
       return Make<torch::optim::Adam>(
           std::move(parameters),
           torch::optim::AdamOptions(0.125).betas({0.75, 0.875}).amsgrad(true));
     }},
    {"AdamW",
     [](std::vector<at::Tensor> parameters) {
       return Make<torch::optim::AdamW>(std::move(parameters),
                                        torch::optim::AdamWOptions(0.125).weight_decay(0.1));
     }},
    {"RMSprop",
     [](std::vector<at::Tensor> parameters) {
       return Make<torch::optim::RMSprop>(
           std::move(parameters),
           torch::optim::RMSpropOptions(0.125).alpha(0.75).momentum(0.5).centered(true));
     }},
    {"Adagrad",
     [](std::vector<at::Tensor> parameters) {
       return Make<torch::optim::Adagrad>(std::move(parameters),
                                          torch::optim::AdagradOptions(0.125).lr_decay(0.25));
     }},
};

class PythonReadsIt : public PythonTest, public ::testing::WithParamInterface<Optimizer> {};

TEST_P(PythonReadsIt, ModelAndOptimizer) {
  torch::manual_seed(5);
  auto model = torch::nn::Linear(3, 2);
  const auto optimizer = GetParam().make(model->parameters());
  const auto step = [&] {
    optimizer->zero_grad();
    model->forward(torch::ones({1, 3})).sum().backward();
    optimizer->step();
  };
  step();
  step();
  auto save = checkpointer_->Save(2, {{"model", model}, {"optimizer", *optimizer}});
  ASSERT_OK(save.status());
  ASSERT_OK(save->AwaitCommitted(absl::Minutes(1)));
  step();
  RunToSuccess({kPython, absl::StrCat(CKPT_PYTHON_SCRIPTS, "/python_reads_it.py"),
                daemon_->data_folder(), GetParam().name, HexFloats(model->weight),
                HexFloats(model->bias)});
}

INSTANTIATE_TEST_SUITE_P(All, PythonReadsIt, ::testing::ValuesIn(kOptimizers),
                         [](const auto& info) { return std::string(info.param.name); });

// --- from Python to LibTorch

// What Python says that it has, by name: flat, in double precision.
std::map<std::string, at::Tensor> ReadResults(const std::string& path) {
  std::map<std::string, at::Tensor> results;
  std::ifstream file(path);
  std::string name;
  for (std::string floats; file >> name >> floats;) {
    std::vector<double> values;
    for (const std::string& text : std::vector<std::string>(absl::StrSplit(floats, ','))) {
      values.push_back(std::strtod(text.c_str(), nullptr));
    }
    results[name] = torch::tensor(values, torch::kFloat64);
  }
  return results;
}

class PythonWritesIt : public PythonTest {
 protected:
  // Saved as python@1; returns what Python says about it.
  std::map<std::string, at::Tensor> Import(const std::string& metadata) {
    const std::string file = scratch_ / "model.safetensors";
    const std::string results = scratch_ / "results";
    std::vector<std::string> words = {
        kPython, absl::StrCat(CKPT_PYTHON_SCRIPTS, "/python_writes_it.py"), file, results};
    if (!metadata.empty()) words.push_back(metadata);
    RunToSuccess(words);
    RunToSuccess({BuiltBinary("ckptctl"), "checkpoint", "import", "python@1", file, "--socket",
                  daemon_->socket()});
    return ReadResults(results);
  }
  static void CheckModel(torch::nn::Sequential& model,
                         const std::map<std::string, at::Tensor>& python) {
    size_t compared = 0;
    const auto check = [&](const std::string& name, const at::Tensor& tensor) {
      ASSERT_TRUE(python.contains(name)) << name;
      EXPECT_TRUE(torch::equal(tensor.detach().flatten().to(torch::kFloat64), python.at(name)))
          << name;
      ++compared;
    };
    for (const auto& entry : model->named_parameters()) check(entry.key(), entry.value());
    for (const auto& entry : model->named_buffers()) check(entry.key(), entry.value());
    EXPECT_EQ(compared + 1, python.size());  // the output is no tensor of the state
    model->eval();
    const at::Tensor output = model->forward(torch::ones({2, 5})).detach().flatten();
    EXPECT_TRUE(torch::allclose(output.to(torch::kFloat64), python.at("output"), 1e-5, 1e-6));
  }
  ScratchFolder scratch_;
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

// A whole training state by torch.save: as the adapter itself would have saved it.
TEST_F(PythonWritesIt, TrainingGoesOnFromATorchSaveFile) {
  const std::string file = scratch_ / "training.pt";
  const std::string results = scratch_ / "results";
  RunToSuccess({kPython, absl::StrCat(CKPT_PYTHON_SCRIPTS, "/python_saves_it.py"), file, results});
  RunToSuccess({BuiltBinary("ckptctl"), "checkpoint", "import", "python@1", file, "--socket",
                daemon_->socket()});
  auto model = SmallModel(9);
  torch::optim::AdamW optimizer(model->parameters(), torch::optim::AdamWOptions(0.5));
  StateDict state{
      {"model", model}, {"optimizer", optimizer}, {"epoch", 0}, {"history", StateList()}};
  const auto loaded = checkpointer_->Load(1, state);
  ASSERT_OK(loaded.status());
  EXPECT_TRUE(loaded->remainder.empty());
  EXPECT_EQ(*state.Find("epoch")->AsInt(), 3);
  EXPECT_EQ(state.Find("history")->If<StateList>()->size(), 3u);
  optimizer.zero_grad();
  model->forward(torch::linspace(0, 1, 40).reshape({8, 5})).square().mean().backward();
  optimizer.step();
  const auto python = ReadResults(results);
  for (const auto& entry : model->named_parameters()) {
    ASSERT_TRUE(python.contains(entry.key())) << entry.key();
    const at::Tensor here = entry.value().detach().flatten().to(torch::kFloat64);
    EXPECT_TRUE(torch::allclose(here, python.at(entry.key()), 1e-4, 1e-6)) << entry.key();
  }
  EXPECT_EQ(model->named_parameters().size(), python.size());
}

}  // namespace
}  // namespace ckpt::testing
