#include "common/key.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/limits.h"
#include "common/quoted.h"
#include "common/utf8.h"

namespace ckpt {
namespace {

// Levenshtein distance of `a` and `b`, or `limit` + 1 where it is greater. Bytes, not characters.
size_t EditDistance(absl::string_view a, absl::string_view b, size_t limit,
                    std::vector<size_t>& row) {
  const size_t difference = a.size() > b.size() ? a.size() - b.size() : b.size() - a.size();
  if (difference > limit) return limit + 1;
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

std::string PrintKey(const v1::Key& key) {
  std::string out;
  bool first = true;
  for (const v1::KeySegment& segment : key.segments()) {
    if (!first) out.push_back('.');
    first = false;
    switch (segment.kind_case()) {
      case v1::KeySegment::kName:
        out += segment.name();
        break;
      case v1::KeySegment::kNumber:
        absl::StrAppend(&out, segment.number());
        break;
      case v1::KeySegment::kIndex:
        absl::StrAppend(&out, segment.index());
        break;
      case v1::KeySegment::KIND_NOT_SET:
        break;
    }
  }
  return out;
}

absl::Status ValidateKey(const v1::Key& key) {
  return internal::ValidatePrintedKey(key, PrintKey(key));
}

absl::Status internal::ValidatePrintedKey(const v1::Key& key, absl::string_view printed) {
  if (key.segments_size() == 0) return absl::InvalidArgumentError("bad key: it has no segment");
  if (static_cast<size_t>(key.segments_size()) > kKeySegmentsMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "bad key: ", key.segments_size(), " segments, at most ", kKeySegmentsMax, " are allowed"));
  }
  for (int i = 0; i < key.segments_size(); ++i) {
    const v1::KeySegment& segment = key.segments(i);
    if (segment.kind_case() == v1::KeySegment::KIND_NOT_SET) {
      return absl::InvalidArgumentError(
          absl::StrCat("bad key ", Quoted(printed), ": segment ", i, " has no kind"));
    }
    if (segment.kind_case() == v1::KeySegment::kName && !IsUtf8(segment.name())) {
      return absl::InvalidArgumentError(
          absl::StrCat("bad key ", Quoted(printed), ": segment ", i, " is not valid UTF-8"));
    }
  }
  if (printed.size() > kKeyBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "bad key ", Quoted(printed), ": printed it is longer than ", kKeyBytesMax, " bytes"));
  }
  return absl::OkStatus();
}

v1::Key MakeKey(absl::Span<const absl::string_view> names) {
  v1::Key key;
  for (const absl::string_view name : names) key.add_segments()->set_name(std::string(name));
  return key;
}

std::vector<std::string> NearestNames(absl::string_view name,
                                      absl::Span<const std::string> candidates, size_t count) {
  const size_t limit = name.size() / 3;
  std::vector<std::pair<size_t, const std::string*>> found;
  std::vector<size_t> row;
  for (const std::string& candidate : candidates) {
    const size_t distance = EditDistance(name, candidate, limit, row);
    if (distance <= limit) found.emplace_back(distance, &candidate);
  }
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first < b.first : *a.second < *b.second;
  });
  std::vector<std::string> names;
  for (const auto& [distance, candidate] : found) {
    if (names.size() == count) break;
    if (names.empty() || names.back() != *candidate) names.push_back(*candidate);
  }
  return names;
}

}  // namespace ckpt
