#include "client/examples/model.h"

#include <cmath>
#include <limits>

namespace train_lm {

namespace nn = torch::nn;

AttentionImpl::AttentionImpl(const ModelShape& shape) : heads_(shape.heads) {
  in_ = register_module("in", nn::Linear(shape.width, 3 * shape.width));
  out_ = register_module("out", nn::Linear(shape.width, shape.width));
  dropout_ = register_module("dropout", nn::Dropout(shape.dropout));
}

torch::Tensor AttentionImpl::forward(const torch::Tensor& x, const torch::Tensor& mask) {
  const int64_t batch = x.size(0), length = x.size(1), width = x.size(2);
  const torch::Tensor qkv =
      in_(x).view({batch, length, 3, heads_, width / heads_}).permute({2, 0, 3, 1, 4});
  torch::Tensor scores = qkv[0].matmul(qkv[1].transpose(-2, -1)) / std::sqrt(width / heads_);
  scores = scores.masked_fill(mask, -std::numeric_limits<float>::infinity());
  const torch::Tensor weights = dropout_(torch::softmax(scores, -1));
  return out_(weights.matmul(qkv[2]).transpose(1, 2).reshape({batch, length, width}));
}

BlockImpl::BlockImpl(const ModelShape& shape) {
  norm1_ = register_module("norm1", nn::LayerNorm(nn::LayerNormOptions({shape.width})));
  attention_ = register_module("attention", Attention(shape));
  norm2_ = register_module("norm2", nn::LayerNorm(nn::LayerNormOptions({shape.width})));
  up_ = register_module("up", nn::Linear(shape.width, 4 * shape.width));
  down_ = register_module("down", nn::Linear(4 * shape.width, shape.width));
  dropout_ = register_module("dropout", nn::Dropout(shape.dropout));
}

torch::Tensor BlockImpl::forward(const torch::Tensor& x, const torch::Tensor& mask) {
  const torch::Tensor y = x + dropout_(attention_(norm1_(x), mask));
  return y + dropout_(down_(torch::gelu(up_(norm2_(y)))));
}

LanguageModelImpl::LanguageModelImpl(const ModelShape& shape) : context_(shape.context) {
  tokens_ = register_module("tokens", nn::Embedding(256, shape.width));
  positions_ = register_module("positions", nn::Embedding(shape.context, shape.width));
  blocks_ = register_module("blocks", nn::ModuleList());
  for (int64_t i = 0; i < shape.layers; ++i) blocks_->push_back(Block(shape));
  norm_ = register_module("norm", nn::LayerNorm(nn::LayerNormOptions({shape.width})));
  mask_ = torch::ones({context_, context_}, torch::kBool).triu(1);
  torch::NoGradGuard no_grad;
  tokens_->weight.mul_(0.05);
  positions_->weight.mul_(0.05);
}

torch::Tensor LanguageModelImpl::forward(const torch::Tensor& tokens) {
  const int64_t length = tokens.size(1);
  const torch::Tensor mask = mask_.slice(0, 0, length).slice(1, 0, length);
  torch::Tensor x = tokens_(tokens) + positions_->weight.slice(0, 0, length);
  for (const auto& block : *blocks_) x = block->as<BlockImpl>()->forward(x, mask);
  return norm_(x).matmul(tokens_->weight.t());
}

torch::Tensor LanguageModelImpl::Loss(const torch::Tensor& windows) {
  const torch::Tensor logits = forward(windows.slice(1, 0, context_));
  return torch::nn::functional::cross_entropy(logits.reshape({-1, 256}),
                                              windows.slice(1, 1).reshape({-1}));
}

}  // namespace train_lm
