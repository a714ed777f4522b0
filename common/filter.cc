#include "common/filter.h"

#include <re2/re2.h>

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/box.h"
#include "common/dtype.h"
#include "common/key.h"
#include "common/layout.h"
#include "common/limits.h"
#include "common/quoted.h"
#include "common/status_macros.h"
#include "common/utf8.h"

namespace ckpt {
namespace {

constexpr size_t kMatchesMax = 10000;
// A few characters can stand for a large program (\pL{400}: minutes of compiling for some hundred
// of them), which nobody can interrupt. So one is bounded by RE2, and those of a selection are by
// number and by the sum of their instructions, at which compiling ends.
constexpr int64_t kRegexBytesMax = 512 << 10;  // of RE2's program and caches
constexpr size_t kRegexesMax = 256;
constexpr size_t kRegexInstructionsMax = 200'000;              // some 100 ms
constexpr size_t kTooLargeInstructions = kRegexBytesMax / 16;  // RE2 gives up before

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

LeafFacts FactsOf(const LeafView& leaf, uint32_t rank) {
  LeafFacts facts;
  facts.printed_key = leaf.printed_key;
  facts.top_level = leaf.top_level;
  if (IsTensorKind(leaf.kind)) {
    facts.dtype = leaf.dtype;
    facts.bytes = Volume(leaf.shape).value_or(0) * DTypeBytes(leaf.dtype);
  }
  if (leaf.placement == v1::PLACEMENT_PER_RANK) facts.rank = rank;
  return facts;
}

LeafFacts FactsOf(const v1::Leaf& leaf, absl::string_view printed_key, uint32_t rank) {
  // A name may hold dots of its own: only the first segment knows where it ends.
  const v1::KeySegment& first = leaf.key().segments(0);
  const size_t top_level_bytes = first.kind_case() == v1::KeySegment::kName
                                     ? first.name().size()
                                     : std::min(printed_key.find('.'), printed_key.size());
  return FactsOf(
      {.printed_key = printed_key,
       .top_level = printed_key.substr(0, top_level_bytes),
       .kind = leaf.kind(),
       .placement = leaf.placement(),
       .dtype = leaf.dtype(),
       .shape = absl::MakeConstSpan(leaf.shape().data(), static_cast<size_t>(leaf.shape_size()))},
      rank);
}

// The regexes of one selection.
class LeafFilter::Regexes {
 public:
  // Null: refused, or nothing more is compiled, and `errors` says so.
  std::shared_ptr<const re2::RE2> Compile(const std::string& regex, CollectedErrors& errors) {
    if (spent_) return nullptr;
    if (regex.size() > kKeyBytesMax) {
      errors.Add(absl::InvalidArgumentError(
          absl::StrCat("bad regex ", Quoted(regex), ": longer than ", kKeyBytesMax, " bytes")));
      return nullptr;
    }
    re2::RE2::Options options;
    options.set_log_errors(false);
    options.set_max_mem(kRegexBytesMax);
    auto compiled = std::make_shared<const re2::RE2>(regex, options);
    if (compiled->ok()) {
      instructions_ += static_cast<size_t>(compiled->ProgramSize());
    } else {
      errors.Add(absl::InvalidArgumentError(
          absl::StrCat("bad regex ", Quoted(regex), ": ", compiled->error())));
      if (compiled->error_code() == re2::RE2::ErrorPatternTooLarge) {
        instructions_ += kTooLargeInstructions;
      }
    }
    if (++count_ > kRegexesMax || instructions_ > kRegexInstructionsMax) {
      spent_ = true;
      errors.Add(absl::InvalidArgumentError(absl::StrCat(
          "bad selection: more than ", kRegexesMax, " regexes, or together larger than ",
          kRegexInstructionsMax, " instructions (this far ", count_, " with ", instructions_,
          "); use globs, or simpler regexes")));
    }
    return compiled;
  }

 private:
  size_t count_ = 0;
  size_t instructions_ = 0;
  bool spent_ = false;
};

LeafFilter::Match LeafFilter::Compile(const v1::LeafMatch& proto, Regexes& regexes,
                                      CollectedErrors& errors) {
  Match match;
  if (!proto.glob().empty()) {
    const absl::Status valid = ValidatePattern(proto.glob());
    errors.Add(valid);
    if (valid.ok()) match.glob.emplace(proto.glob());
  }
  if (!proto.regex().empty()) match.regex = regexes.Compile(proto.regex(), errors);
  for (const int dtype : proto.dtypes()) {
    if (DTypeBytes(static_cast<v1::DType>(dtype)) == 0) {
      errors.Add(
          absl::InvalidArgumentError(absl::StrCat("bad selection: no such dtype: ", dtype)));
    }
    match.dtypes.push_back(static_cast<v1::DType>(dtype));
  }
  if (proto.has_min_bytes()) match.min_bytes = proto.min_bytes();
  if (proto.has_max_bytes()) match.max_bytes = proto.max_bytes();
  if (match.min_bytes && match.max_bytes && *match.min_bytes > *match.max_bytes) {
    errors.Add(absl::InvalidArgumentError(absl::StrCat("bad selection: min_bytes ",
                                                       *match.min_bytes, " is more than max_bytes ",
                                                       *match.max_bytes)));
  }
  match.top_level = proto.top_level();
  match.ranks.assign(proto.ranks().begin(), proto.ranks().end());
  if (proto.glob().empty() && proto.regex().empty() && match.dtypes.empty() && !match.min_bytes &&
      !match.max_bytes && match.top_level.empty() && match.ranks.empty()) {
    errors.Add(absl::InvalidArgumentError("bad selection: a match that sets nothing"));
  }
  return match;
}

bool LeafFilter::Match::Holds(const LeafFacts& leaf) const {
  if (!top_level.empty() && leaf.top_level != top_level) return false;
  if (!dtypes.empty() && std::find(dtypes.begin(), dtypes.end(), leaf.dtype) == dtypes.end()) {
    return false;
  }
  if (min_bytes && (!leaf.bytes || *leaf.bytes < *min_bytes)) return false;
  if (max_bytes && (!leaf.bytes || *leaf.bytes > *max_bytes)) return false;
  // What all ranks share is everybody's: who asks for a rank's leaves gets it, and who leaves out a
  // rank's keeps it.
  if (!ranks.empty() &&
      (leaf.rank ? std::find(ranks.begin(), ranks.end(), *leaf.rank) == ranks.end() : excludes)) {
    return false;
  }
  if (glob && !glob->Matches(leaf.printed_key)) return false;
  const re2::StringPiece key(leaf.printed_key.data(), leaf.printed_key.size());
  return regex == nullptr || re2::RE2::PartialMatch(key, *regex);
}

// The literal beginning of the glob, else the top-level entry.
std::string LeafFilter::Match::Prefix() const {
  return glob && glob->prefix().size() > top_level.size() ? glob->prefix() : top_level;
}

absl::StatusOr<LeafFilter> LeafFilter::FromSelection(const v1::Selection& selection) {
  LeafFilter filter;
  CollectedErrors errors;
  Regexes regexes;
  const auto add = [&](const auto& globs, const auto& matches, bool excludes,
                       std::vector<Match>& list) {
    if (static_cast<size_t>(globs.size()) + static_cast<size_t>(matches.size()) > kMatchesMax) {
      errors.Add(absl::InvalidArgumentError(
          absl::StrCat("bad selection: more than ", kMatchesMax, " patterns")));
      return;
    }
    for (const std::string& pattern : globs) {
      const absl::Status valid = ValidatePattern(pattern);
      errors.Add(valid);
      if (valid.ok()) list.emplace_back().glob.emplace(pattern);
    }
    for (const v1::LeafMatch& proto : matches) {
      list.push_back(Compile(proto, regexes, errors));
      list.back().excludes = excludes;
    }
  };
  add(selection.include(), selection.include_matching(), false, filter.include_);
  add(selection.exclude(), selection.exclude_matching(), true, filter.exclude_);
  const auto name = [&errors](const v1::Key& key, std::vector<std::string>& list) {
    const absl::Status valid = ValidateKey(key);
    errors.Add(valid);
    if (valid.ok()) list.push_back(PrintKey(key));
  };
  for (const v1::Key& key : selection.keys()) name(key, filter.exact_);
  filter.named_ = filter.exact_;
  for (const v1::Selection::Slice& slice : selection.slices()) name(slice.key(), filter.named_);
  for (const v1::Key& key : selection.must_exist()) name(key, filter.named_);
  CKPT_RETURN_IF_ERROR(errors.ToStatus());
  for (std::vector<std::string>* keys : {&filter.exact_, &filter.named_}) {
    std::sort(keys->begin(), keys->end());
    keys->erase(std::unique(keys->begin(), keys->end()), keys->end());
  }
  return filter;
}

bool LeafFilter::Matches(const LeafFacts& leaf) const {
  const auto holds = [&](const Match& match) { return match.Holds(leaf); };
  const bool included = (include_.empty() && exact_.empty()) ||
                        std::binary_search(exact_.begin(), exact_.end(), leaf.printed_key) ||
                        std::any_of(include_.begin(), include_.end(), holds);
  return included && std::none_of(exclude_.begin(), exclude_.end(), holds);
}

std::vector<uint32_t> LeafFilter::included_ranks() const {
  std::vector<uint32_t> ranks;
  for (const Match& match : include_) {
    ranks.insert(ranks.end(), match.ranks.begin(), match.ranks.end());
  }
  std::sort(ranks.begin(), ranks.end());
  ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
  return ranks;
}

std::vector<std::string> LeafFilter::Prefixes() const {
  if (include_.empty() && exact_.empty()) return {""};
  std::vector<std::string> all = exact_;
  for (const Match& match : include_) all.push_back(match.Prefix());
  std::sort(all.begin(), all.end());
  std::vector<std::string> kept;
  for (std::string& prefix : all) {
    if (kept.empty() || !absl::StartsWith(prefix, kept.back())) kept.push_back(std::move(prefix));
  }
  return kept;
}

}  // namespace ckpt
