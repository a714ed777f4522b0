#include "server/rpc/nearest_keys.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/key.h"
#include "common/quoted.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

constexpr size_t kFirstKeys = 1000;
constexpr size_t kSegmentsMax = 16;
constexpr size_t kNamesPerLevelMax = 256;
constexpr size_t kPathsPerLevelMax = 3;
constexpr size_t kMissingShown = 10;
constexpr size_t kNearestShown = 3;

absl::StatusOr<bool> HasNamesBelow(LeafMerge& leaves, const std::string& prefix) {
  CKPT_RETURN_IF_ERROR(leaves.Seek(prefix));
  return leaves.valid() && absl::StartsWith(leaves.printed_key(), prefix);
}

absl::StatusOr<bool> HasKey(LeafMerge& leaves, absl::string_view key) {
  CKPT_RETURN_IF_ERROR(leaves.Seek(key));
  return leaves.valid() && leaves.printed_key() == key;
}

}  // namespace

absl::Status NearestKeys::ReadFirstKeys() {
  if (first_keys_) return absl::OkStatus();
  std::vector<std::string> keys;
  CKPT_RETURN_IF_ERROR(leaves_.Seek(""));
  while (leaves_.valid() && keys.size() < kFirstKeys) {
    if (keys.empty() || keys.back() != leaves_.printed_key()) {
      keys.emplace_back(leaves_.printed_key());
    }
    CKPT_RETURN_IF_ERROR(leaves_.Next());
  }
  first_keys_ = std::move(keys);
  return absl::OkStatus();
}

absl::StatusOr<const std::vector<std::string>*> NearestKeys::NamesBelow(
    const std::string& prefix) {
  const auto known = names_below_.find(prefix);
  if (known != names_below_.end()) return &known->second;
  std::vector<std::string> names;
  CKPT_RETURN_IF_ERROR(leaves_.Seek(prefix));
  while (leaves_.valid() && absl::StartsWith(leaves_.printed_key(), prefix) &&
         names.size() < kNamesPerLevelMax) {
    const absl::string_view key = leaves_.printed_key();
    const size_t dot = key.find('.', prefix.size());
    names.emplace_back(key.substr(0, dot));
    // Behind all that begins with "name.": '/' is the next character.
    CKPT_RETURN_IF_ERROR(leaves_.Seek(
        absl::StrCat(names.back(), dot == absl::string_view::npos ? absl::string_view("\0", 1)
                                                                  : absl::string_view("/"))));
  }
  return &names_below_.emplace(prefix, std::move(names)).first->second;
}

absl::StatusOr<std::vector<std::string>> NearestKeys::Find(absl::string_view missing,
                                                           size_t count) {
  CKPT_RETURN_IF_ERROR(ReadFirstKeys());
  std::vector<std::string> candidates = *first_keys_;
  const std::vector<std::string> segments = absl::StrSplit(missing, '.');
  std::vector<std::string> paths = {""};
  for (size_t depth = 0; depth < std::min(segments.size(), kSegmentsMax); ++depth) {
    std::string wanted = segments[0];
    for (size_t i = 1; i <= depth; ++i) absl::StrAppend(&wanted, ".", segments[i]);
    std::vector<std::string> below;
    CKPT_ASSIGN_OR_RETURN(const bool there, HasNamesBelow(leaves_, absl::StrCat(wanted, ".")));
    if (there) below.push_back(wanted);  // though it may lie behind the names that are looked at
    for (const std::string& path : paths) {
      CKPT_ASSIGN_OR_RETURN(const std::vector<std::string>* names,
                            NamesBelow(depth == 0 ? path : absl::StrCat(path, ".")));
      below.insert(below.end(), names->begin(), names->end());
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

absl::Status CheckKeysExist(absl::Span<const std::string> named,
                            absl::Span<LeafMerge* const> checkpoints) {
  std::vector<std::string> missing;
  for (const std::string& key : named) {
    bool found = false;
    for (size_t i = 0; i < checkpoints.size() && !found; ++i) {
      CKPT_ASSIGN_OR_RETURN(found, HasKey(*checkpoints[i], key));
    }
    if (!found) missing.push_back(key);
  }
  if (missing.empty()) return absl::OkStatus();
  std::vector<NearestKeys> nearest_keys;
  for (LeafMerge* leaves : checkpoints) nearest_keys.emplace_back(*leaves);
  std::vector<std::string> told;
  for (const std::string& key : absl::MakeSpan(missing).subspan(0, kMissingShown)) {
    std::vector<std::string> candidates;
    for (NearestKeys& one : nearest_keys) {
      CKPT_ASSIGN_OR_RETURN(const std::vector<std::string> found, one.Find(key, kNearestShown));
      candidates.insert(candidates.end(), found.begin(), found.end());
    }
    std::vector<std::string> nearest = NearestNames(key, candidates, kNearestShown);
    for (std::string& name : nearest) name = Quoted(name);
    told.push_back(nearest.empty() ? Quoted(key)
                                   : absl::StrCat(Quoted(key), " (nearest: ",
                                                  absl::StrJoin(nearest, ", "), ")"));
  }
  const size_t hidden = missing.size() - told.size();
  return absl::NotFoundError(absl::StrCat(
      checkpoints.size() > 1 ? "neither checkpoint has a key " : "the checkpoint has no key ",
      absl::StrJoin(told, ", "), hidden > 0 ? absl::StrCat(" and ", hidden, " more") : ""));
}

}  // namespace ckpt
