// Which leaves: by key, glob, regex, dtype, size, top-level entry and rank. One implementation for
// save, restore, listing, diff and export, in client and daemon. The words on the wire are
// v1::Selection and v1::LeafMatch.
#ifndef CKPT_COMMON_FILTER_H_
#define CKPT_COMMON_FILTER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "ckpt/v1/checkpoint.pb.h"
#include "ckpt/v1/restore.pb.h"
#include "common/collected_errors.h"
#include "common/glob.h"
#include "common/leaf_table.h"

namespace re2 {
class RE2;
}  // namespace re2

namespace ckpt {

// What a filter looks at.
struct LeafFacts {
  absl::string_view printed_key;
  absl::string_view top_level;                // its first segment, as it prints
  v1::DType dtype = v1::DTYPE_UNSPECIFIED;    // of tensors
  std::optional<uint64_t> bytes;              // of the whole tensor; plain values have none
  std::optional<uint32_t> rank;               // PER_RANK: whose
};
LeafFacts FactsOf(const LeafView& leaf, uint32_t rank);  // views into what `leaf` does
// `printed_key` must outlive the answer.
LeafFacts FactsOf(const v1::Leaf& leaf, absl::string_view printed_key, uint32_t rank);

// Immutable once made; may be used from several threads.
class LeafFilter {
 public:
  // INVALID_ARGUMENT: an empty or oversized pattern, a regex that does not parse (says where), a
  // LeafMatch that sets nothing, a bad key, too many regexes or too large ones. One error tells all
  // that is wrong.
  static absl::StatusOr<LeafFilter> FromSelection(const v1::Selection& selection);
  // A leaf is selected if some include matches it, or there is none, and no exclude does.
  bool Matches(const LeafFacts& leaf) const;
  bool everything() const { return include_.empty() && exact_.empty() && exclude_.empty(); }
  // Exact keys asked for (printed, sorted).
  const std::vector<std::string>& exact_keys() const { return exact_; }
  // These, the keys of slices and those that must exist (printed, sorted): what a caller is told is
  // missing.
  const std::vector<std::string>& named_keys() const { return named_; }
  // Whose PER_RANK leaves some include asks for (sorted).
  std::vector<uint32_t> included_ranks() const;
  // Every leaf that may match has a key that begins with one of these. Sorted, none begins with
  // another; {""} where nothing is known. An exact key stands as it is.
  std::vector<std::string> Prefixes() const;

 private:
  struct Match {
    std::optional<Glob> glob;
    std::shared_ptr<const re2::RE2> regex;
    std::vector<v1::DType> dtypes;
    std::optional<uint64_t> min_bytes;
    std::optional<uint64_t> max_bytes;
    std::string top_level;
    std::vector<uint32_t> ranks;
    bool excludes = false;

    bool Holds(const LeafFacts& leaf) const;
    std::string Prefix() const;
  };
  class Regexes;
  static Match Compile(const v1::LeafMatch& proto, Regexes& regexes, CollectedErrors& errors);

  std::vector<Match> include_;
  std::vector<Match> exclude_;
  std::vector<std::string> exact_;  // sorted
  std::vector<std::string> named_;  // sorted
};

}  // namespace ckpt

#endif  // CKPT_COMMON_FILTER_H_
