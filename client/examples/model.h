// A decoder-only transformer over bytes: pre-norm blocks, learnt positions, output weights tied to
// the embedding.
#ifndef CKPT_CLIENT_EXAMPLES_MODEL_H_
#define CKPT_CLIENT_EXAMPLES_MODEL_H_

#include <torch/torch.h>

namespace train_lm {

struct ModelShape {
  int64_t layers = 6;
  int64_t width = 320;
  int64_t heads = 8;
  int64_t context = 64;
  double dropout = 0.1;
};

class AttentionImpl : public torch::nn::Module {
 public:
  explicit AttentionImpl(const ModelShape& shape);
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& mask);

 private:
  int64_t heads_;
  torch::nn::Linear in_{nullptr}, out_{nullptr};
  torch::nn::Dropout dropout_{nullptr};
};
TORCH_MODULE(Attention);

class BlockImpl : public torch::nn::Module {
 public:
  explicit BlockImpl(const ModelShape& shape);
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& mask);

 private:
  torch::nn::LayerNorm norm1_{nullptr}, norm2_{nullptr};
  Attention attention_{nullptr};
  torch::nn::Linear up_{nullptr}, down_{nullptr};
  torch::nn::Dropout dropout_{nullptr};
};
TORCH_MODULE(Block);

class LanguageModelImpl : public torch::nn::Module {
 public:
  explicit LanguageModelImpl(const ModelShape& shape);
  // tokens [batch, length <= context] of int64 -> logits [batch, length, 256].
  torch::Tensor forward(const torch::Tensor& tokens);
  // Mean cross entropy, in nats per byte, of each byte of `windows` [batch, context + 1] given
  // those before it.
  torch::Tensor Loss(const torch::Tensor& windows);

 private:
  int64_t context_;
  torch::nn::Embedding tokens_{nullptr}, positions_{nullptr};
  torch::nn::ModuleList blocks_{nullptr};
  torch::nn::LayerNorm norm_{nullptr};
  torch::Tensor mask_;  // [context, context], true where a position must not look
};
TORCH_MODULE(LanguageModel);

}  // namespace train_lm

#endif  // CKPT_CLIENT_EXAMPLES_MODEL_H_
