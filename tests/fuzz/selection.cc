// The first two bytes are the length of a serialized v1::Selection; the rest are keys, a line each.
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "ckpt/v1/restore.pb.h"
#include "common/filter.h"
#include "common/glob.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/targets.h"

namespace ckpt::fuzz {
namespace {

// What glob.h says, in the plainest way; a character is a byte.
bool PlainGlob(absl::string_view glob, absl::string_view key) {
  std::vector<bool> at(key.size() + 1, false);
  at[0] = true;
  while (!glob.empty()) {
    std::vector<bool> next(key.size() + 1, false);
    if (glob[0] == '*') {
      const bool dots = absl::StartsWith(glob, "**");
      glob.remove_prefix(dots ? 2 : 1);
      bool reached = false;
      for (size_t i = 0; i <= key.size(); ++i) {
        reached = at[i] || (reached && (dots || key[i - 1] != '.'));
        next[i] = reached;
      }
    } else {
      const bool any = glob[0] == '?';
      if (glob[0] == '\\' && glob.size() > 1) glob.remove_prefix(1);
      for (size_t i = 0; i < key.size(); ++i) {
        if (at[i] && (any || key[i] == glob[0])) next[i + 1] = true;
      }
      glob.remove_prefix(1);
    }
    at = next;
  }
  return at[key.size()];
}

void FuzzSelection(absl::string_view bytes) {
  Input input(bytes);
  const size_t length = input.Number(2);
  v1::Selection selection;
  if (!selection.ParseFromString(std::string(input.Bytes(length)))) return;
  const auto filter = LeafFilter::FromSelection(selection);
  if (!filter.ok()) return;
  const std::vector<std::string> prefixes = filter->Prefixes();
  const std::string lines(input.Rest());
  int keys = 0;
  for (absl::string_view key : absl::StrSplit(lines, '\n')) {
    if (++keys > 16) break;
    LeafFacts leaf;
    leaf.printed_key = key;
    leaf.top_level = key.substr(0, key.find('.'));
    leaf.dtype = v1::DTYPE_F32;
    leaf.bytes = key.size();
    if (filter->Matches(leaf)) {
      bool found = false;
      for (const std::string& prefix : prefixes) found = found || absl::StartsWith(key, prefix);
      Require(found, "what matches begins as the filter says");
    }
    if (selection.include_size() > 0 && selection.include(0).size() < 64 && key.size() < 64) {
      bool ascii = true;  // elsewhere a character is more than a byte
      for (const char c : selection.include(0) + std::string(key)) ascii = ascii && c > 0;
      Require(
          !ascii || GlobMatches(selection.include(0), key) == PlainGlob(selection.include(0), key),
          "a glob matches what glob.h says");
    }
  }
}

const Registration kSelection("selection", FuzzSelection);

}  // namespace
}  // namespace ckpt::fuzz
