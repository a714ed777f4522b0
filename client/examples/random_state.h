// The state of Torch's default random generator of this process (dropout draws from it): a tensor
// of bytes, a copy.
#ifndef CKPT_CLIENT_EXAMPLES_RANDOM_STATE_H_
#define CKPT_CLIENT_EXAMPLES_RANDOM_STATE_H_

#include <torch/torch.h>

#include <mutex>

namespace train_lm {

inline torch::Tensor RandomState() {
  at::Generator generator = at::detail::getDefaultCPUGenerator();
  const std::lock_guard<std::mutex> lock(generator.mutex());
  return generator.get_state();
}

inline void SetRandomState(const torch::Tensor& state) {
  at::Generator generator = at::detail::getDefaultCPUGenerator();
  const std::lock_guard<std::mutex> lock(generator.mutex());
  generator.set_state(state);
}

}  // namespace train_lm

#endif  // CKPT_CLIENT_EXAMPLES_RANDOM_STATE_H_
