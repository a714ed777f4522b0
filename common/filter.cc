#include "common/filter.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/key.h"
#include "common/limits.h"
#include "common/quoted.h"
#include "common/status_macros.h"
#include "common/utf8.h"

namespace ckpt {
namespace {

enum class TokenKind { kLiteral, kOne, kSegment, kAny };
struct Token {
  TokenKind kind;
  absl::string_view character;  // kLiteral
};

// The first character: a well-formed one, or a stray byte.
absl::string_view Character(absl::string_view text) {
  return text.substr(0, std::max<size_t>(1, Utf8CharacterBytes(text)));
}

std::vector<Token> Tokens(absl::string_view glob) {
  std::vector<Token> tokens;
  while (!glob.empty()) {
    Token token{TokenKind::kLiteral, Character(glob)};
    if (glob[0] == '?') {
      token.kind = TokenKind::kOne;
    } else if (glob.substr(0, 2) == "**") {
      token = {TokenKind::kAny, glob.substr(0, 2)};
    } else if (glob[0] == '*') {
      token.kind = TokenKind::kSegment;
    } else if (glob[0] == '\\' && glob.size() > 1) {
      glob.remove_prefix(1);
      token.character = Character(glob);
    }
    tokens.push_back(token);
    glob.remove_prefix(token.character.size());
  }
  return tokens;
}

absl::Status ValidatePattern(absl::string_view pattern) {
  if (pattern.empty()) return absl::InvalidArgumentError("bad pattern: it is empty");
  if (pattern.size() > kKeyBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("bad pattern ", Quoted(pattern), ": longer than ", kKeyBytesMax, " bytes"));
  }
  if (!IsUtf8(pattern)) {
    return absl::InvalidArgumentError(
        absl::StrCat("bad pattern ", Quoted(pattern), ": not valid UTF-8"));
  }
  size_t backslashes = 0;
  while (backslashes < pattern.size() && pattern[pattern.size() - 1 - backslashes] == '\\') {
    ++backslashes;
  }
  if (backslashes % 2 == 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "bad pattern ", Quoted(pattern), ": nothing after the last backslash; write \\\\ for one"));
  }
  return absl::OkStatus();
}

}  // namespace

// All positions in the pattern that the characters so far can lead to, at once.
bool GlobMatches(absl::string_view glob, absl::string_view printed_key) {
  const std::vector<Token> tokens = Tokens(glob);
  // A literal beginning that differs is what nearly every key of a large state is refused by.
  size_t first = 0;
  while (first < tokens.size() && tokens[first].kind == TokenKind::kLiteral) {
    const absl::string_view character = tokens[first].character;
    if (printed_key.substr(0, character.size()) != character) return false;
    printed_key.remove_prefix(character.size());
    ++first;
  }
  std::vector<char> now(tokens.size() + 1, 0), next(tokens.size() + 1, 0);
  // Tokens that may match nothing are passed at no cost.
  auto reach = [&](std::vector<char>& positions, size_t position) {
    while (true) {
      positions[position] = 1;
      if (position == tokens.size() || (tokens[position].kind != TokenKind::kSegment &&
                                        tokens[position].kind != TokenKind::kAny)) {
        return;
      }
      ++position;
    }
  };
  reach(now, first);
  while (!printed_key.empty()) {
    const absl::string_view character = Character(printed_key);
    printed_key.remove_prefix(character.size());
    std::fill(next.begin(), next.end(), 0);
    bool alive = false;
    for (size_t i = first; i < tokens.size(); ++i) {
      if (now[i] == 0) continue;
      switch (tokens[i].kind) {
        case TokenKind::kLiteral:
          if (tokens[i].character != character) continue;
          reach(next, i + 1);
          break;
        case TokenKind::kOne:
          reach(next, i + 1);
          break;
        case TokenKind::kSegment:
          if (character == ".") continue;
          reach(next, i);
          break;
        case TokenKind::kAny:
          reach(next, i);
          break;
      }
      alive = true;
    }
    if (!alive) return false;
    now.swap(next);
  }
  return now[tokens.size()] != 0;
}

absl::StatusOr<KeyFilter> KeyFilter::FromSelection(const v1::Selection& selection) {
  KeyFilter filter;
  for (const std::string& pattern : selection.include()) {
    CKPT_RETURN_IF_ERROR(ValidatePattern(pattern));
    filter.include_.push_back(pattern);
  }
  for (const std::string& pattern : selection.exclude()) {
    CKPT_RETURN_IF_ERROR(ValidatePattern(pattern));
    filter.exclude_.push_back(pattern);
  }
  for (const v1::Key& key : selection.keys()) {
    CKPT_RETURN_IF_ERROR(ValidateKey(key));
    filter.exact_.push_back(PrintKey(key));
  }
  for (const v1::Selection::Slice& slice : selection.slices()) {
    CKPT_RETURN_IF_ERROR(ValidateKey(slice.key()));
  }
  std::sort(filter.exact_.begin(), filter.exact_.end());
  filter.exact_.erase(std::unique(filter.exact_.begin(), filter.exact_.end()), filter.exact_.end());
  return filter;
}

bool KeyFilter::Matches(absl::string_view printed_key) const {
  auto matches = [&](const std::string& glob) { return GlobMatches(glob, printed_key); };
  const bool included = (include_.empty() && exact_.empty()) ||
                        std::binary_search(exact_.begin(), exact_.end(), printed_key) ||
                        std::any_of(include_.begin(), include_.end(), matches);
  return included && std::none_of(exclude_.begin(), exclude_.end(), matches);
}

}  // namespace ckpt
