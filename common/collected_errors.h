// Several things that are wrong with one request, told in one error: who mends them mends all.
#ifndef CKPT_COMMON_COLLECTED_ERRORS_H_
#define CKPT_COMMON_COLLECTED_ERRORS_H_

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/hash/hash.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace ckpt {

class CollectedErrors {
 public:
  // Of many, so many are told.
  static constexpr size_t kShownMax = 10;

  // OK adds nothing, nor does a text that was added already.
  void Add(const absl::Status& status) {
    if (status.ok()) return;
    std::string text(status.message());
    if (!seen_.insert(absl::HashOf(text)).second) return;
    if (shown_.empty()) code_ = status.code();
    if (shown_.size() < kShownMax) {
      shown_.push_back(std::move(text));
    } else {
      ++hidden_;
    }
  }
  bool empty() const { return shown_.empty(); }
  // OK where nothing was added; else with the code of the first.
  absl::Status ToStatus() const {
    if (empty()) return absl::OkStatus();
    return absl::Status(code_, absl::StrCat(absl::StrJoin(shown_, "; "),
                                            hidden_ > 0 ? absl::StrCat("; and ", hidden_, " more")
                                                        : ""));
  }

 private:
  absl::StatusCode code_ = absl::StatusCode::kOk;
  absl::flat_hash_set<size_t> seen_;  // hashes: there may be many
  std::vector<std::string> shown_;
  size_t hidden_ = 0;
};

}  // namespace ckpt

#endif  // CKPT_COMMON_COLLECTED_ERRORS_H_
