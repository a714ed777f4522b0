#include "client/cli/tensor_slice.h"

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/collected_errors.h"
#include "common/status_macros.h"

namespace ckpt::cli {
namespace {

absl::Status MalformedSlice(absl::string_view text) {
  return absl::InvalidArgumentError(
      absl::StrCat("a slice is written KEY[0:100,:], with one range for each dimension, not \"",
                   absl::Utf8SafeCEscape(text), "\""));
}

std::string Print(const SliceRange& range) {
  const auto print = [](const std::optional<int64_t>& bound) {
    return bound ? absl::StrCat(*bound) : "";
  };
  return absl::StrCat(print(range.begin), ":", print(range.end));
}

// False where it is neither empty nor a number.
bool ParseBound(absl::string_view text, std::optional<int64_t>& bound) {
  if (text.empty()) return true;
  int64_t number = 0;
  if (!absl::SimpleAtoi(text, &number)) return false;
  bound = number;
  return true;
}

bool ParseRange(absl::string_view text, SliceRange& range) {
  const std::vector<absl::string_view> bounds = absl::StrSplit(text, ':');
  if (bounds.size() == 2) {
    return ParseBound(bounds[0], range.begin) && ParseBound(bounds[1], range.end);
  }
  if (bounds.size() != 1 || !ParseBound(text, range.begin) || !range.begin) return false;
  if (*range.begin == INT64_MAX) return false;
  // From the last element on there is no end to name: -1 is -1 to the end.
  if (*range.begin != -1) range.end = *range.begin + 1;
  return true;
}

// A place in a dimension of `extent`; nullopt: outside of it.
std::optional<uint64_t> Place(int64_t bound, uint64_t extent) {
  if (bound >= 0) {
    const auto place = static_cast<uint64_t>(bound);
    return place <= extent ? std::optional(place) : std::nullopt;
  }
  const uint64_t from_end = uint64_t{0} - static_cast<uint64_t>(bound);
  return from_end <= extent ? std::optional(extent - from_end) : std::nullopt;
}

}  // namespace

absl::StatusOr<TensorSlice> ParseTensorSlice(absl::string_view text) {
  absl::string_view rest = text;
  const size_t open = rest.rfind('[');
  if (open == absl::string_view::npos || open == 0 || !absl::ConsumeSuffix(&rest, "]")) {
    return MalformedSlice(text);
  }
  TensorSlice slice{.key = std::string(rest.substr(0, open))};
  rest.remove_prefix(open + 1);
  for (absl::string_view part : absl::StrSplit(rest, ',')) {
    part = absl::StripAsciiWhitespace(part);
    if (!ParseRange(part, slice.ranges.emplace_back())) return MalformedSlice(text);
  }
  return slice;
}

absl::StatusOr<std::vector<TensorSlice>> ParseTensorSlices(absl::Span<const std::string> texts) {
  std::vector<TensorSlice> slices;
  CollectedErrors errors;
  for (const std::string& text : texts) {
    absl::StatusOr<TensorSlice> slice = ParseTensorSlice(text);
    errors.Add(slice.status());
    if (!slice.ok()) continue;
    const auto same = [&](const TensorSlice& other) { return other.key == slice->key; };
    if (std::any_of(slices.begin(), slices.end(), same)) {
      errors.Add(absl::InvalidArgumentError(absl::StrCat(
          "--slice ", absl::Utf8SafeCEscape(text), ": one box of a tensor at a time")));
    } else {
      slices.push_back(*std::move(slice));
    }
  }
  CKPT_RETURN_IF_ERROR(errors.ToStatus());
  return slices;
}

absl::StatusOr<Box> BoxOf(const TensorSlice& slice, absl::Span<const uint64_t> shape) {
  const std::string tensor = absl::StrCat(absl::Utf8SafeCEscape(slice.key), " has the shape [",
                                          absl::StrJoin(shape, ", "), "]");
  if (slice.ranges.size() > shape.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a slice with ", slice.ranges.size(), " ranges: ", tensor));
  }
  Box box = Box::Whole(shape);
  for (size_t d = 0; d < slice.ranges.size(); ++d) {
    const SliceRange& range = slice.ranges[d];
    const std::optional<uint64_t> begin = Place(range.begin.value_or(0), shape[d]);
    const std::optional<uint64_t> end = range.end ? Place(*range.end, shape[d]) : shape[d];
    if (!begin || !end || *begin >= *end) {
      return absl::InvalidArgumentError(absl::StrCat("the slice ", Print(range), " of dimension ",
                                                     d, begin && end ? " is empty" : " leaves it",
                                                     ": ", tensor));
    }
    box.offset[d] = *begin;
    box.extent[d] = *end - *begin;
  }
  return box;
}

}  // namespace ckpt::cli
