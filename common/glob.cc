#include "common/glob.h"

#include <algorithm>

#include "absl/container/inlined_vector.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/utf8.h"

namespace ckpt {
namespace {

constexpr size_t kWordBits = 64;

enum class TokenKind { kLiteral, kOne, kSegment, kAny };
struct Token {
  TokenKind kind;
  absl::string_view character;  // kLiteral
};

bool MayRepeat(const Token& token) {
  return token.kind == TokenKind::kSegment || token.kind == TokenKind::kAny;
}

// The first character: a well-formed one, or a stray byte.
absl::string_view Character(absl::string_view text) {
  const bool ascii = static_cast<uint8_t>(text[0]) < 0x80;
  return text.substr(0, ascii ? 1 : std::max<size_t>(1, Utf8CharacterBytes(text)));
}

// No two that may repeat stand side by side: *** means what ** means.
std::vector<Token> Tokens(absl::string_view pattern) {
  std::vector<Token> tokens;
  while (!pattern.empty()) {
    Token token{TokenKind::kLiteral, Character(pattern)};
    size_t taken = token.character.size();
    if (pattern[0] == '?') {
      token.kind = TokenKind::kOne;
    } else if (pattern[0] == '*') {
      taken = std::min(pattern.find_first_not_of('*'), pattern.size());
      token.kind = taken > 1 ? TokenKind::kAny : TokenKind::kSegment;
    } else if (pattern[0] == '\\' && pattern.size() > 1) {
      pattern.remove_prefix(1);
      token.character = Character(pattern);
      taken = token.character.size();
    }
    tokens.push_back(token);
    pattern.remove_prefix(taken);
  }
  return tokens;
}

}  // namespace

Glob::Glob(absl::string_view pattern) {
  std::vector<Token> tokens = Tokens(pattern);
  const auto is_wild = [](const Token& token) { return token.kind != TokenKind::kLiteral; };
  const auto first = std::find_if(tokens.begin(), tokens.end(), is_wild);
  for (auto it = tokens.begin(); it != first; ++it) absl::StrAppend(&prefix_, it->character);
  if (first == tokens.end()) return;
  const auto last = std::find_if(tokens.rbegin(), tokens.rend(), is_wild).base();
  for (auto it = last; it != tokens.end(); ++it) absl::StrAppend(&suffix_, it->character);
  tokens = std::vector<Token>(first, last);
  if (tokens.size() == 1 && MayRepeat(tokens[0])) {
    middle_ = tokens[0].kind == TokenKind::kAny ? Middle::kAnything : Middle::kSegment;
    return;
  }

  middle_ = Middle::kAutomaton;
  end_ = tokens.size();
  words_ = end_ / kWordBits + 1;
  takes_.resize(words_);
  for (const Token& token : tokens) {
    if (token.kind == TokenKind::kLiteral) AddCharacter(token.character);
  }
  stays_.resize(words_);
  crosses_.resize(words_);
  for (size_t i = 0; i < tokens.size(); ++i) {
    const size_t word = i / kWordBits;
    const Word bit = Word{1} << i % kWordBits;
    switch (tokens[i].kind) {
      case TokenKind::kLiteral:
        takes_[ClassOf(tokens[i].character) * words_ + word] |= bit;
        break;
      case TokenKind::kOne:
        for (size_t row = 0; row < takes_.size(); row += words_) takes_[row + word] |= bit;
        break;
      case TokenKind::kAny:
        crosses_[word] |= bit;
        [[fallthrough]];
      case TokenKind::kSegment:
        stays_[word] |= bit;
        break;
    }
  }
}

// The character gets a row of its own, unless it has one.
void Glob::AddCharacter(absl::string_view character) {
  if (ClassOf(character) != 0) return;
  const auto row = static_cast<uint16_t>(takes_.size() / words_);
  if (static_cast<uint8_t>(character[0]) < class_of_.size()) {
    class_of_[static_cast<uint8_t>(character[0])] = row;
  } else {
    wide_.emplace_back(character, row);
  }
  takes_.resize(takes_.size() + words_);
}

size_t Glob::ClassOf(absl::string_view character) const {
  const auto first = static_cast<uint8_t>(character[0]);
  if (first < class_of_.size()) return class_of_[first];
  for (const auto& [wide, row] : wide_) {
    if (wide == character) return row;
  }
  return 0;
}

bool Glob::Matches(absl::string_view printed_key) const {
  if (middle_ == Middle::kNone) return printed_key == prefix_;
  if (printed_key.size() < prefix_.size() + suffix_.size() ||
      !absl::StartsWith(printed_key, prefix_) || !absl::EndsWith(printed_key, suffix_)) {
    return false;
  }
  printed_key.remove_prefix(prefix_.size());
  printed_key.remove_suffix(suffix_.size());
  switch (middle_) {
    case Middle::kSegment:
      return !absl::StrContains(printed_key, '.');
    case Middle::kAutomaton:
      return MiddleMatches(printed_key);
    default:
      return true;
  }
}

bool Glob::MiddleMatches(absl::string_view text) const {
  absl::InlinedVector<Word, 4> places(words_);
  // Tokens that may match nothing are passed at no cost: no two of them are neighbours.
  const auto pass = [&] {
    Word carry = 0;
    for (size_t w = 0; w < words_; ++w) {
      const Word passed = places[w] & stays_[w];
      places[w] |= passed << 1 | carry;
      carry = passed >> (kWordBits - 1);
    }
  };
  places[0] = 1;
  pass();
  while (!text.empty()) {
    const absl::string_view character = Character(text);
    text.remove_prefix(character.size());
    const Word* const takes = &takes_[ClassOf(character) * words_];
    const std::vector<Word>& stays = character[0] == '.' ? crosses_ : stays_;
    Word carry = 0;
    Word any = 0;
    for (size_t w = 0; w < words_; ++w) {
      const Word taken = places[w] & takes[w];
      places[w] = (places[w] & stays[w]) | taken << 1 | carry;
      carry = taken >> (kWordBits - 1);
      any |= places[w];
    }
    if (any == 0) return false;
    pass();
  }
  return (places[end_ / kWordBits] >> end_ % kWordBits & 1) != 0;
}

bool GlobMatches(absl::string_view glob, absl::string_view printed_key) {
  return Glob(glob).Matches(printed_key);
}

std::string LiteralGlob(absl::string_view text) {
  std::string glob;
  for (const char c : text) {
    if (c == '*' || c == '?' || c == '\\') glob.push_back('\\');
    glob.push_back(c);
  }
  return glob;
}

}  // namespace ckpt
