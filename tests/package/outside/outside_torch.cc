#include <torch/torch.h>

#include <iostream>

#include "client/torch/checkpointer.h"
#include "client/torch/launch.h"

int main() {
  torch::nn::Linear layer(3, 2);
  const ckpt::StateDict state{{"model", layer}, {"step", 7}};
  const auto converted = ckpt::ToStateDict(*state.Find("model"));
  if (!converted.ok() || !converted->contains("weight")) return 1;
  // Nobody listens there: what comes back is a clear error, from the real library.
  const auto checkpointer = ckpt::Checkpointer::Connect(
      {.client = {.socket = "/nowhere/ckptd.sock", .connect_timeout = absl::Milliseconds(100)},
       .run = "outside"});
  std::cout << checkpointer.status() << "\n";
  return checkpointer.status().code() == absl::StatusCode::kUnavailable ? 0 : 1;
}
