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

// A key as one string, its serialized v1::Key: a state may have a million of them, which are
// copied, compared and freed at every save.
class Key {
 public:
  Key() = default;
  Key(const v1::Key& proto);  // NOLINT: implicit, they are the same
  v1::Key ToProto() const;
  const std::string& serialized() const { return serialized_; }
  bool empty() const { return serialized_.empty(); }  // no segment
  friend bool operator==(const Key&, const Key&) = default;

 private:
  std::string serialized_;
};

// Segments joined by '.': model.layers.0.weight. What filters match.
std::string PrintKey(const v1::Key& key);
std::string PrintKey(const Key& key);

// INVALID_ARGUMENT: no segment, too many, a segment without a kind, not valid UTF-8, or too long
// when printed.
absl::Status ValidateKey(const v1::Key& key);
namespace internal {
// Appends the printed key of a serialized v1::Key in canonical form. `top_level_bytes`: those of
// its first segment there. INVALID_ARGUMENT as ValidateKey, or for another form.
absl::Status AppendPrintedKey(absl::string_view serialized, std::string& out,
                              size_t& top_level_bytes);
}  // namespace internal

// A key of name segments: MakeKey({"model", "weight"}).
v1::Key MakeKey(absl::Span<const absl::string_view> names);

}  // namespace ckpt

#endif  // CKPT_COMMON_KEY_H_
