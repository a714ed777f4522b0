#include "client/examples/text.h"

#include <array>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"

namespace train_lm {
namespace {

template <size_t N>
const char* Pick(const std::array<const char*, N>& words, RandomSequence& random) {
  return words[random.Below(N)];
}

constexpr std::array kPeople = {"sailor", "baker", "child", "painter", "farmer", "doctor"};
constexpr std::array kQualities = {"old", "quiet", "clever", "tired", "brave", "merry"};
constexpr std::array kThings = {"lantern", "apple", "stone", "letter", "boat", "drum"};
constexpr std::array kColours = {"red", "green", "blue", "white", "black"};
constexpr std::array kPlaces = {"by the harbour", "under the bridge", "in the garden",
                                "behind the mill", "near the old tower"};
constexpr std::array kActions = {"counts", "carries", "paints", "sells", "finds"};
constexpr std::array kTimes = {"At dawn", "At noon", "In the evening", "After the rain"};

std::string Person(RandomSequence& random) {
  return absl::StrCat("the ", Pick(kQualities, random), " ", Pick(kPeople, random));
}

// Numbers agree with their nouns, sums add up, brackets close: something to learn at each scale.
std::string Sentence(RandomSequence& random) {
  switch (random.Below(4)) {
    case 0: {
      const uint64_t count = 1 + random.Below(9);
      return absl::StrCat(Pick(kTimes, random), " ", Person(random), " ", Pick(kActions, random),
                          " ", count, " ", Pick(kColours, random), " ", Pick(kThings, random),
                          count == 1 ? "" : "s", " ", Pick(kPlaces, random), ". ");
    }
    case 1: {
      const uint64_t a = random.Below(50);
      const uint64_t b = random.Below(50);
      return absl::StrCat(a, " + ", b, " = ", a + b, ". ");
    }
    case 2:
      return absl::StrCat("\"Where is my ", Pick(kThings, random), "?\" asks ", Person(random),
                          ". \"", "It is ", Pick(kPlaces, random), ".\" ");
    default: {
      const uint64_t depth = 1 + random.Below(4);
      std::string open, close;
      for (uint64_t i = 0; i < depth; ++i) {
        const bool round = random.Below(2) == 0;
        open += round ? '(' : '[';
        close.insert(close.begin(), round ? ')' : ']');
      }
      return absl::StrCat(open, Pick(kColours, random), close, ", ");
    }
  }
}

}  // namespace

uint64_t RandomSequence::Next() {
  state_ += 0x9e3779b97f4a7c15;
  uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

std::string WriteText(uint64_t seed, size_t bytes) {
  RandomSequence random(seed);
  std::string text;
  text.reserve(bytes + 256);
  while (text.size() < bytes) text += Sentence(random);
  text.resize(bytes);
  return text;
}

TextReader::TextReader(std::string text, int rank, int ranks, int64_t window_bytes, uint64_t seed)
    : text_(std::move(text)),
      begin_(text_.size() / ranks * rank),
      window_bytes_(window_bytes),
      windows_(static_cast<int64_t>(text_.size()) / ranks / window_bytes - 1),
      seed_(seed * 1000 + rank),
      jitter_(seed_ ^ 0x5eed) {
  Shuffle();
}

void TextReader::Shuffle() {
  RandomSequence random(seed_ + (static_cast<uint64_t>(epoch_) << 32));
  order_.resize(windows_);
  std::iota(order_.begin(), order_.end(), 0);
  for (size_t i = order_.size(); i > 1; --i) std::swap(order_[i - 1], order_[random.Below(i)]);
}

const uint8_t* TextReader::NextWindow() {
  if (window_ == windows_) {
    ++epoch_;
    window_ = 0;
    Shuffle();
  }
  // One window more than `windows_` fits into the slice, so the jitter stays inside.
  const size_t offset = begin_ + order_[window_++] * window_bytes_ + jitter_.Below(window_bytes_);
  return reinterpret_cast<const uint8_t*>(text_.data()) + offset;
}

ReaderPosition TextReader::position() const { return {epoch_, window_, jitter_.state()}; }

void TextReader::Seek(const ReaderPosition& position) {
  epoch_ = position.epoch;
  window_ = position.window;
  jitter_ = RandomSequence(position.random_state);
  Shuffle();
}

}  // namespace train_lm
