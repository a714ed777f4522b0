#include "client/restore/printed_keys.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "common/key.h"

namespace ckpt {

PrintedKeys::PrintedKeys(absl::Span<const v1::PlannedLeaf> leaves) {
  ends_.reserve(leaves.size());
  for (const v1::PlannedLeaf& leaf : leaves) {
    absl::StrAppend(&text_, PrintKey(leaf.leaf().key()));
    ends_.push_back(text_.size());
  }
  sorted_.resize(leaves.size());
  std::iota(sorted_.begin(), sorted_.end(), 0);
  std::stable_sort(sorted_.begin(), sorted_.end(),
                   [&](uint32_t a, uint32_t b) { return (*this)[a] < (*this)[b]; });
}

absl::string_view PrintedKeys::operator[](uint32_t leaf) const {
  const uint64_t begin = leaf == 0 ? 0 : ends_[leaf - 1];
  return absl::string_view(text_).substr(begin, ends_[leaf] - begin);
}

absl::Span<const uint32_t> PrintedKeys::Find(absl::string_view key) const {
  const auto first =
      std::lower_bound(sorted_.begin(), sorted_.end(), key,
                       [&](uint32_t leaf, absl::string_view than) { return (*this)[leaf] < than; });
  auto last = first;
  while (last != sorted_.end() && (*this)[*last] == key) ++last;
  return absl::MakeConstSpan(sorted_).subspan(static_cast<size_t>(first - sorted_.begin()),
                                              static_cast<size_t>(last - first));
}

}  // namespace ckpt
