// Globs on printed keys: * matches any run of characters without '.', ** any run at all, ? one
// character; \ takes the next one as it is.
#ifndef CKPT_COMMON_GLOB_H_
#define CKPT_COMMON_GLOB_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace ckpt {

// A pattern made ready for many keys. Immutable; may be used from several threads.
//
// Nearly every key of a large state is decided by comparing its beginning and end with those of the
// pattern. What lies between goes through an automaton that is at all reachable places of the
// pattern at once, 64 of them to a word: linear in key and pattern, nothing to blow up.
class Glob {
 public:
  explicit Glob(absl::string_view pattern);
  bool Matches(absl::string_view printed_key) const;
  // The beginning that every matching key has: all up to the first wildcard.
  const std::string& prefix() const { return prefix_; }

 private:
  using Word = uint64_t;
  enum class Middle { kNone, kAnything, kSegment, kAutomaton };

  bool MiddleMatches(absl::string_view text) const;
  size_t ClassOf(absl::string_view character) const;
  void AddCharacter(absl::string_view character);

  std::string prefix_;
  std::string suffix_;  // all behind the last wildcard
  Middle middle_ = Middle::kNone;

  // The automaton of the middle. Place i is before its token i; the last place is its end. Tables
  // are rows of `words_` words, a bit for each place.
  size_t words_ = 1;
  std::array<uint16_t, 128> class_of_ = {};             // ASCII character -> row of takes_
  std::vector<std::pair<std::string, uint16_t>> wide_;  // other characters of the pattern
  std::vector<Word> takes_;    // the token takes this character and is done; row 0: any other one
  std::vector<Word> stays_;    // the token takes any character and stays: * and **
  std::vector<Word> crosses_;  // '.' too: **
  size_t end_ = 0;
};

// For one key only.
bool GlobMatches(absl::string_view glob, absl::string_view printed_key);

// A glob that matches this text alone.
std::string LiteralGlob(absl::string_view text);

}  // namespace ckpt

#endif  // CKPT_COMMON_GLOB_H_
