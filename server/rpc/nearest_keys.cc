#include "server/rpc/nearest_keys.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/key.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

constexpr size_t kFirstKeys = 1000;
constexpr size_t kSegmentsMax = 16;
constexpr size_t kNamesPerLevelMax = 256;
constexpr size_t kPathsPerLevelMax = 3;

// The distinct names that follow `prefix`, each with the prefix: one seek for each.
absl::StatusOr<std::vector<std::string>> NamesBelow(LeafMerge& leaves, const std::string& prefix) {
  std::vector<std::string> names;
  CKPT_RETURN_IF_ERROR(leaves.Seek(prefix));
  while (leaves.valid() && absl::StartsWith(leaves.printed_key(), prefix) &&
         names.size() < kNamesPerLevelMax) {
    const absl::string_view key = leaves.printed_key();
    const size_t dot = key.find('.', prefix.size());
    names.emplace_back(key.substr(0, dot));
    // Behind all that begins with "name.": '/' is the next character.
    CKPT_RETURN_IF_ERROR(leaves.Seek(
        absl::StrCat(names.back(), dot == absl::string_view::npos ? absl::string_view("\0", 1)
                                                                  : absl::string_view("/"))));
  }
  return names;
}

absl::StatusOr<bool> HasNamesBelow(LeafMerge& leaves, const std::string& prefix) {
  CKPT_RETURN_IF_ERROR(leaves.Seek(prefix));
  return leaves.valid() && absl::StartsWith(leaves.printed_key(), prefix);
}

}  // namespace

absl::StatusOr<std::vector<std::string>> NearestKeys(LeafMerge& leaves,
                                                     absl::string_view missing, size_t count) {
  std::vector<std::string> candidates;
  CKPT_RETURN_IF_ERROR(leaves.Seek(""));
  while (leaves.valid() && candidates.size() < kFirstKeys) {
    if (candidates.empty() || candidates.back() != leaves.printed_key()) {
      candidates.emplace_back(leaves.printed_key());
    }
    CKPT_RETURN_IF_ERROR(leaves.Next());
  }
  const std::vector<std::string> segments = absl::StrSplit(missing, '.');
  std::vector<std::string> paths = {""};
  for (size_t depth = 0; depth < std::min(segments.size(), kSegmentsMax); ++depth) {
    std::string wanted = segments[0];
    for (size_t i = 1; i <= depth; ++i) absl::StrAppend(&wanted, ".", segments[i]);
    std::vector<std::string> below;
    CKPT_ASSIGN_OR_RETURN(const bool there, HasNamesBelow(leaves, absl::StrCat(wanted, ".")));
    if (there) below.push_back(wanted);  // though it may lie behind the names that are looked at
    for (const std::string& path : paths) {
      CKPT_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                            NamesBelow(leaves, depth == 0 ? path : absl::StrCat(path, ".")));
      below.insert(below.end(), names.begin(), names.end());
    }
    paths = NearestNames(wanted, below, kPathsPerLevelMax);
    if (depth + 1 == segments.size()) {
      candidates.insert(candidates.end(), below.begin(), below.end());
    }
  }
  std::sort(candidates.begin(), candidates.end());
  candidates.erase(std::unique(candidates.begin(), candidates.end()), candidates.end());
  return NearestNames(missing, candidates, count);
}

}  // namespace ckpt
