// PyTorch's Python reads what LibTorch saved: the data file as safetensors, the optimizer through
// load_state_dict, and the next step gives the same parameters.
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "tests/fixtures/daemon.h"
#include "tests/torch/torch_test.h"

namespace ckpt::testing {
namespace {

std::string HexFloats(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.detach().flatten();
  std::vector<std::string> texts;
  for (int64_t i = 0; i < flat.numel(); ++i) {
    texts.push_back(absl::StrFormat("%a", flat[i].item<float>()));
  }
  return absl::StrJoin(texts, ",");
}

TEST(PythonReadsIt, ModelAndOptimizer) {
  auto daemon = Daemon::Start();
  ASSERT_OK(daemon.status());
  CheckpointerOptions options;
  options.client.socket = (*daemon)->socket();
  options.run = "python";
  auto checkpointer = Checkpointer::Connect(options);
  ASSERT_OK(checkpointer.status());
  torch::manual_seed(5);
  auto model = torch::nn::Linear(3, 2);
  torch::optim::AdamW optimizer(model->parameters(), torch::optim::AdamWOptions(0.125));
  const auto step = [&] {
    optimizer.zero_grad();
    model->forward(torch::ones({1, 3})).sum().backward();
    optimizer.step();
  };
  step();
  step();
  auto save = (*checkpointer)->Save(2, {{"model", model}, {"optimizer", optimizer}});
  ASSERT_OK(save.status());
  ASSERT_OK(save->AwaitCommitted(absl::Minutes(1)));
  step();
  const std::string command =
      absl::StrCat("/usr/bin/python3 ", CKPT_PYTHON_SCRIPT, " ", (*daemon)->data_folder(), " ",
                   HexFloats(model->weight), " ", HexFloats(model->bias));
  EXPECT_EQ(std::system(command.c_str()), 0) << command;
}

}  // namespace
}  // namespace ckpt::testing
