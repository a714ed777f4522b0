// What the tests of the two languages share: a daemon, PyTorch's Python and ckptctl beside it, and
// the files of tensors that the two sides tell each other: a line for each, a name and hex floats.
#ifndef CKPT_TESTS_TORCH_PYTHON_TEST_H_
#define CKPT_TESTS_TORCH_PYTHON_TEST_H_

#include <torch/torch.h>

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

// Flat, in double precision: every float is one exactly.
using TensorResults = std::map<std::string, at::Tensor>;

inline TensorResults ResultsOf(const torch::nn::Sequential& model) {
  TensorResults results;
  for (const auto& entry : model->named_parameters()) results[entry.key()] = entry.value();
  for (const auto& entry : model->named_buffers()) results[entry.key()] = entry.value();
  for (auto& [name, tensor] : results) tensor = tensor.detach().flatten().to(torch::kFloat64);
  return results;
}

inline TensorResults ReadResults(const std::string& path) {
  TensorResults results;
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

inline void WriteResults(const TensorResults& results, const std::string& path) {
  std::ofstream file(path);
  for (const auto& [name, tensor] : results) {
    std::vector<std::string> floats;
    for (int64_t i = 0; i < tensor.numel(); ++i) {
      floats.push_back(absl::StrFormat("%a", tensor[i].item<double>()));
    }
    file << name << " " << absl::StrJoin(floats, ",") << "\n";
  }
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

  // Runs the script beside this file, or a verb, to its success.
  void Python(std::vector<std::string> words) {
    words[0] = absl::StrCat(CKPT_PYTHON_SCRIPTS, "/", words[0]);
    words.insert(words.begin(), "/usr/bin/python3");
    RunToSuccess(words);
  }
  void Ckptctl(std::vector<std::string> words) {
    words.insert(words.begin(), BuiltBinary("ckptctl"));
    RunToSuccess(words);
  }

  ScratchFolder scratch_;
  std::unique_ptr<Daemon> daemon_;
  std::unique_ptr<Checkpointer> checkpointer_;

 private:
  void RunToSuccess(const std::vector<std::string>& words) {
    const absl::StatusOr<CommandResult> result =
        RunCommand(words, {{"CKPTD_SOCKET", daemon_->socket()}}, absl::Minutes(1));
    ASSERT_OK(result.status());
    ASSERT_EQ(result->exit_status, 0) << absl::StrJoin(words, " ") << "\n"
                                      << result->output << result->errors;
  }
};

}  // namespace ckpt::testing

#endif  // CKPT_TESTS_TORCH_PYTHON_TEST_H_
