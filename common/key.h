// Keys: typed paths in a state dict, how they print, and names near to one that is missing.
#ifndef CKPT_COMMON_KEY_H_
#define CKPT_COMMON_KEY_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "ckpt/v1/checkpoint.pb.h"

namespace ckpt {

// Segments joined by '.': model.layers.0.weight. What filters match.
std::string PrintKey(const v1::Key& key);

// INVALID_ARGUMENT: no segment, too many, a segment without a kind, not valid UTF-8, or too long
// when printed.
absl::Status ValidateKey(const v1::Key& key);
namespace internal {
// The same where PrintKey(key) is at hand.
absl::Status ValidatePrintedKey(const v1::Key& key, absl::string_view printed);
}  // namespace internal

// A key of name segments: MakeKey({"model", "weight"}).
v1::Key MakeKey(absl::Span<const absl::string_view> names);

// Up to `count` of `candidates` nearest to `name` (edit distance, at most a third of its length),
// nearest first.
std::vector<std::string> NearestNames(absl::string_view name,
                                      absl::Span<const std::string> candidates, size_t count);

}  // namespace ckpt

#endif  // CKPT_COMMON_KEY_H_
