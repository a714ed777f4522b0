#include "server/rpc/prefix_distances.h"

#include <algorithm>

namespace ckpt {

PrefixDistances::PrefixDistances(absl::string_view name, size_t edits)
    : name_(name), edits_(std::min(edits, kEditsMax)), rows_(1) {
  // Of the empty beginning: the length of the name's.
  for (size_t i = 0; i < rows_[0].size(); ++i) {
    const size_t length = i - edits_;  // wraps where there is none
    rows_[0][i] = static_cast<uint8_t>(
        i >= edits_ && length <= name_.size() && length <= edits_ ? length : edits_ + 1);
  }
}

std::optional<std::string> PrefixDistances::SkipFrom(absl::string_view other) {
  const size_t common = static_cast<size_t>(
      std::mismatch(followed_.begin(), followed_.end(), other.begin(), other.end()).first -
      followed_.begin());
  followed_.resize(common);
  rows_.resize(common + 1);
  for (size_t length = common + 1; length <= other.size(); ++length) {
    const Row row = Next(rows_.back(), length, other[length - 1]);
    if (*std::min_element(row.begin(), row.end()) > edits_) return Behind(other[length - 1]);
    rows_.push_back(row);
    followed_.push_back(other[length - 1]);
  }
  return std::nullopt;
}

std::string PrefixDistances::Behind(char byte) const {
  // Edits are left nowhere, or any byte might follow: so one of the name's own must.
  const Row& row = rows_.back();
  std::optional<uint8_t> next;
  for (size_t i = 0; i <= 2 * edits_; ++i) {
    if (followed_.size() + i < edits_ || followed_.size() + i - edits_ >= name_.size()) continue;
    const auto own = static_cast<uint8_t>(name_[followed_.size() + i - edits_]);
    if (row[i] > edits_ || own <= static_cast<uint8_t>(byte)) continue;
    next = std::min(next.value_or(own), own);
  }
  return followed_ + static_cast<char>(next.value_or(0xFF));
}

PrefixDistances::Row PrefixDistances::Next(const Row& row, size_t length, char byte) const {
  const auto far = static_cast<uint8_t>(edits_ + 1);
  Row next;
  next.fill(far);
  // Entry i is about the first `length + i - edits_` bytes of the name. One shorter beginning of
  // `other` and one byte more of the name is entry i of `row`, the same of the name entry i + 1.
  for (size_t i = 0; i <= 2 * edits_; ++i) {
    if (length + i < edits_ || length + i - edits_ > name_.size()) continue;
    const size_t of_name = length + i - edits_;
    uint8_t best = i < 2 * edits_ ? static_cast<uint8_t>(row[i + 1] + 1) : far;
    if (of_name > 0) {
      const bool same = name_[of_name - 1] == byte;
      best = std::min<uint8_t>(best, static_cast<uint8_t>(row[i] + (same ? 0 : 1)));
      if (i > 0) best = std::min<uint8_t>(best, static_cast<uint8_t>(next[i - 1] + 1));
    }
    next[i] = std::min(best, far);
  }
  return next;
}

}  // namespace ckpt
