#include "common/nearest_names.h"

#include <algorithm>
#include <utility>

namespace ckpt {
namespace {

// Most names that are compared begin and end alike, and that part costs next to nothing.
void DropCommonEnds(absl::string_view& a, absl::string_view& b) {
  const size_t common = std::min(a.size(), b.size());
  size_t front = 0;
  while (front < common && a[front] == b[front]) ++front;
  a.remove_prefix(front);
  b.remove_prefix(front);
  size_t back = 0;
  while (back < common - front && a[a.size() - 1 - back] == b[b.size() - 1 - back]) ++back;
  a.remove_suffix(back);
  b.remove_suffix(back);
}

// Levenshtein distance of `a` and `b`, or `limit` + 1 where it is greater. Bytes, not characters.
size_t EditDistance(absl::string_view a, absl::string_view b, size_t limit,
                    std::vector<size_t>& row) {
  const size_t difference = a.size() > b.size() ? a.size() - b.size() : b.size() - a.size();
  if (difference > limit) return limit + 1;
  DropCommonEnds(a, b);
  row.resize(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    // Only a band around the diagonal can stay within the limit.
    const size_t low = i > limit ? i - limit : 1;
    const size_t high = std::min(b.size(), i + limit);
    size_t diagonal = row[low - 1];
    row[low - 1] = low == 1 ? i : limit + 1;
    size_t best = row[low - 1];
    for (size_t j = low; j <= high; ++j) {
      const size_t above = j == i + limit ? limit + 1 : row[j];
      const size_t value =
          std::min({diagonal + (a[i - 1] == b[j - 1] ? 0 : 1), above + 1, row[j - 1] + 1});
      diagonal = row[j];
      row[j] = std::min(value, limit + 1);
      best = std::min(best, row[j]);
    }
    if (best > limit) return limit + 1;
  }
  return row[b.size()];
}

}  // namespace

NearestSearch::NearestSearch(absl::string_view name, size_t count)
    : name_(name), count_(count), limit_(name.size() / 3) {}

void NearestSearch::Add(absl::string_view candidate) {
  if (count_ == 0) return;
  const size_t distance = EditDistance(name_, candidate, limit_, row_);
  if (distance > limit_) return;
  const auto before = [&](const Found& found) {
    return found.distance != distance ? found.distance < distance : found.name < candidate;
  };
  const auto at = std::partition_point(found_.begin(), found_.end(), before);
  if (at != found_.end() && at->name == candidate) return;  // it comes by again
  if (at == found_.end() && found_.size() == count_) return;
  found_.insert(at, {distance, std::string(candidate)});
  if (found_.size() > count_) found_.pop_back();
  if (found_.size() == count_) limit_ = found_.back().distance;
}

std::vector<std::string> NearestSearch::Names() const {
  std::vector<std::string> names;
  for (const Found& found : found_) names.push_back(found.name);
  return names;
}

std::vector<std::string> NearestNames(absl::string_view name,
                                      absl::Span<const std::string> candidates, size_t count) {
  NearestSearch search(name, count);
  for (const std::string& candidate : candidates) search.Add(candidate);
  return search.Names();
}

}  // namespace ckpt
