// The text that the model learns: sentences of a small grammar, made from a seed, and the order in
// which one rank reads it. No Torch.
#ifndef CKPT_CLIENT_EXAMPLES_TEXT_H_
#define CKPT_CLIENT_EXAMPLES_TEXT_H_

#include <cstdint>
#include <string>
#include <vector>

namespace train_lm {

// The same on every machine and in every process for the same arguments.
std::string WriteText(uint64_t seed, size_t bytes);

// SplitMix64: a random sequence whose whole state is one number.
class RandomSequence {
 public:
  explicit RandomSequence(uint64_t state) : state_(state) {}
  uint64_t Next();
  uint64_t Below(uint64_t bound) { return Next() % bound; }
  uint64_t state() const { return state_; }

 private:
  uint64_t state_;
};

// Where a rank's reader stands. Restoring these three numbers restores every later window.
struct ReaderPosition {
  int64_t epoch = 0;
  int64_t window = 0;  // windows read in this epoch
  uint64_t random_state = 0;
};

// Reads windows of `window_bytes` of its rank's slice of the text, each epoch in a new order.
class TextReader {
 public:
  TextReader(std::string text, int rank, int ranks, int64_t window_bytes, uint64_t seed);
  // The next window. Valid as long as the reader.
  const uint8_t* NextWindow();
  ReaderPosition position() const;
  void Seek(const ReaderPosition& position);

 private:
  void Shuffle();

  std::string text_;
  size_t begin_ = 0;  // of this rank's slice
  int64_t window_bytes_;
  int64_t windows_;
  uint64_t seed_;
  int64_t epoch_ = 0;
  int64_t window_ = 0;
  RandomSequence jitter_;
  std::vector<uint32_t> order_;
};

}  // namespace train_lm

#endif  // CKPT_CLIENT_EXAMPLES_TEXT_H_
