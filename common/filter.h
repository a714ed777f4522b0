// Which keys: globs over printed keys. One implementation for save, restore, listing and export, in
// client and daemon.
// * matches any run of characters without '.', ** any run at all, ? one character; \ takes the next
// one as it is.
#ifndef CKPT_COMMON_FILTER_H_
#define CKPT_COMMON_FILTER_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "ckpt/v1/restore.pb.h"

namespace ckpt {

bool GlobMatches(absl::string_view glob,
                 absl::string_view printed_key);  // linear in both, no backtracking blow-up

class KeyFilter {
 public:
  // INVALID_ARGUMENT: an empty or oversized pattern, a bad key.
  static absl::StatusOr<KeyFilter> FromSelection(const v1::Selection& selection);
  bool Matches(absl::string_view printed_key) const;
  bool everything() const { return include_.empty() && exact_.empty() && exclude_.empty(); }
  // Exact keys asked for (printed): what a caller can be told is missing.
  const std::vector<std::string>& exact_keys() const { return exact_; }

 private:
  std::vector<std::string> include_;
  std::vector<std::string> exclude_;
  std::vector<std::string> exact_;  // sorted
};

}  // namespace ckpt

#endif  // CKPT_COMMON_FILTER_H_
