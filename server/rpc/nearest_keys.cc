#include "server/rpc/nearest_keys.h"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/glob.h"
#include "common/nearest_names.h"
#include "common/quoted.h"
#include "common/status_macros.h"
#include "server/rpc/prefix_distances.h"

namespace ckpt {
namespace {

constexpr size_t kStepsMax = 20'000;  // of a checkpoint of one part
constexpr size_t kStepsOfManyParts = 1000;
constexpr size_t kSegmentsMax = 16;
constexpr size_t kNamesPerLevelMax = 256;
constexpr size_t kPathsPerLevelMax = 3;
constexpr size_t kMissingShown = 10;
constexpr size_t kNearestShown = 3;

absl::StatusOr<bool> Begins(LeafMerge& leaves, const std::string& prefix) {
  CKPT_RETURN_IF_ERROR(leaves.Seek(prefix));
  return leaves.valid() && absl::StartsWith(leaves.printed_key(), prefix);
}

absl::StatusOr<bool> HasKey(LeafMerge& leaves, absl::string_view key) {
  CKPT_RETURN_IF_ERROR(leaves.Seek(key));
  return leaves.valid() && leaves.printed_key() == key;
}

// The steps that one missing key may cost.
class KeyWalk {
 public:
  KeyWalk(LeafMerge& leaves, size_t steps) : leaves_(leaves), steps_(steps) {}

  // True: those were all keys.
  absl::StatusOr<bool> AddFirstKeys(absl::Span<NearestSearch> searches) {
    CKPT_RETURN_IF_ERROR(leaves_.Seek(""));
    while (leaves_.valid() && Step()) {
      for (NearestSearch& search : searches) search.Add(leaves_.printed_key());
      CKPT_RETURN_IF_ERROR(leaves_.Next());
    }
    return !leaves_.valid();
  }

  // All keys within `edits` of the missing one.
  absl::Status AddWithin(size_t edits, NearestSearch& search) {
    PrefixDistances distances(search.name(), edits);
    CKPT_RETURN_IF_ERROR(leaves_.Seek(""));
    while (leaves_.valid() && Step()) {
      const absl::string_view key = leaves_.printed_key();
      if (const auto behind = distances.SkipFrom(key)) {
        CKPT_RETURN_IF_ERROR(leaves_.Seek(*behind));
        continue;
      }
      search.Add(key);
      CKPT_RETURN_IF_ERROR(leaves_.Next());
    }
    return absl::OkStatus();
  }

  // Segment by segment, below the nearest names.
  absl::Status AddBySegments(NearestSearch& search) {
    const std::vector<std::string> segments = absl::StrSplit(search.name(), '.');
    std::vector<std::string> paths = {""};
    std::string wanted;
    for (size_t depth = 0; depth < std::min(segments.size(), kSegmentsMax); ++depth) {
      absl::StrAppend(&wanted, depth == 0 ? "" : ".", segments[depth]);
      const bool is_last = depth + 1 == segments.size();
      NearestSearch nearest(wanted, kPathsPerLevelMax);
      for (const std::string& path : paths) {
        const std::string prefix = depth == 0 ? "" : absl::StrCat(path, ".");
        // Though it may lie behind the names that are looked at.
        const std::string same = absl::StrCat(prefix, segments[depth]);
        CKPT_ASSIGN_OR_RETURN(const bool is_there,
                              is_last ? HasKey(leaves_, same) : Begins(leaves_, same + "."));
        if (is_there) nearest.Add(same);
        if (is_there && is_last) search.Add(same);
        CKPT_RETURN_IF_ERROR(AddNamesBelow(prefix, nearest, is_last ? &search : nullptr));
      }
      paths = nearest.Names();
    }
    return absl::OkStatus();
  }

 private:
  bool Step() {
    if (steps_ == 0) return false;
    --steps_;
    return true;
  }

  // The first distinct names that follow `prefix`, each with the prefix: one seek for each.
  absl::Status AddNamesBelow(const std::string& prefix, NearestSearch& names,
                             NearestSearch* search) {
    CKPT_RETURN_IF_ERROR(leaves_.Seek(prefix));
    for (size_t count = 0; count < kNamesPerLevelMax && Step(); ++count) {
      if (!leaves_.valid() || !absl::StartsWith(leaves_.printed_key(), prefix)) break;
      const absl::string_view key = leaves_.printed_key();
      const size_t dot = key.find('.', prefix.size());
      const std::string name(key.substr(0, dot));
      names.Add(name);
      if (search != nullptr && dot == absl::string_view::npos) search->Add(name);
      // Behind all that begins with "name.": '/' is the next character.
      CKPT_RETURN_IF_ERROR(leaves_.Seek(
          absl::StrCat(name, dot == absl::string_view::npos ? absl::string_view("\0", 1)
                                                            : absl::string_view("/"))));
    }
    return absl::OkStatus();
  }

  LeafMerge& leaves_;
  size_t steps_;
};

// A dictionary or a list, and no leaf: what is in it has keys that go on behind a dot.
absl::StatusOr<bool> ContainsKeys(absl::Span<LeafMerge* const> checkpoints, absl::string_view key) {
  const std::string below = absl::StrCat(key, ".");
  for (LeafMerge* leaves : checkpoints) {
    CKPT_RETURN_IF_ERROR(leaves->Seek(below));
    if (leaves->valid() && absl::StartsWith(leaves->printed_key(), below)) return true;
  }
  return false;
}

}  // namespace

absl::Status FindNearestKeys(LeafMerge& leaves, absl::Span<NearestSearch> searches) {
  const size_t steps = std::max(kStepsOfManyParts,
                                kStepsMax / std::max<size_t>(1, leaves.part_count()));
  CKPT_ASSIGN_OR_RETURN(const bool all, KeyWalk(leaves, steps).AddFirstKeys(searches));
  if (all) return absl::OkStatus();
  for (NearestSearch& search : searches) {
    for (const size_t edits : {size_t{1}, PrefixDistances::kEditsMax}) {
      CKPT_RETURN_IF_ERROR(KeyWalk(leaves, steps).AddWithin(edits, search));
    }
    CKPT_RETURN_IF_ERROR(KeyWalk(leaves, steps).AddBySegments(search));
  }
  return absl::OkStatus();
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
  std::vector<NearestSearch> searches;
  for (const std::string& key : absl::MakeSpan(missing).subspan(0, kMissingShown)) {
    searches.emplace_back(key, kNearestShown);
  }
  for (LeafMerge* leaves : checkpoints) {
    CKPT_RETURN_IF_ERROR(FindNearestKeys(*leaves, absl::MakeSpan(searches)));
  }
  std::vector<std::string> told;
  for (const NearestSearch& search : searches) {
    const std::string key = Quoted(search.name());
    CKPT_ASSIGN_OR_RETURN(const bool contains, ContainsKeys(checkpoints, search.name()));
    if (contains) {
      told.push_back(absl::StrCat(key, " (but keys below it: a glob takes them all, ",
                                  Quoted(absl::StrCat(LiteralGlob(search.name()), ".**")), ")"));
      continue;
    }
    std::vector<std::string> nearest = search.Names();
    for (std::string& name : nearest) name = Quoted(name);
    told.push_back(nearest.empty()
                       ? key
                       : absl::StrCat(key, " (nearest: ", absl::StrJoin(nearest, ", "), ")"));
  }
  const size_t hidden = missing.size() - told.size();
  return absl::NotFoundError(absl::StrCat(
      checkpoints.size() > 1 ? "neither checkpoint has a key " : "the checkpoint has no key ",
      absl::StrJoin(told, ", "), hidden > 0 ? absl::StrCat(" and ", hidden, " more") : ""));
}

}  // namespace ckpt
