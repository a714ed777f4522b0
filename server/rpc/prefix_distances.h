// Which names of a sorted list cannot be near to a given one, told by how they begin: so that a
// search passes over all that begin alike by one seek.
#ifndef CKPT_SERVER_RPC_PREFIX_DISTANCES_H_
#define CKPT_SERVER_RPC_PREFIX_DISTANCES_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace ckpt {

// One thread. Holds a few bytes for each byte of `name`.
class PrefixDistances {
 public:
  static constexpr size_t kEditsMax = 2;

  // `edits` at most kEditsMax. Edits of bytes: one is put in, left out, or another.
  PrefixDistances(absl::string_view name, size_t edits);

  // Nothing where a name that begins with `other` may be within the edits. Otherwise where to go
  // on: every name between `other` and there is further away. Names are UTF-8: without bytes 0xFF.
  // Cheap where `other` begins as the one before did.
  std::optional<std::string> SkipFrom(absl::string_view other);

 private:
  // Of one beginning of `other`: its distances to the beginnings of the name that are shorter by
  // `edits` to longer by `edits`; what is further away is edits + 1.
  using Row = std::array<uint8_t, 2 * kEditsMax + 1>;
  // Of the beginning that is one byte longer than that of `row`, and then `length` bytes.
  Row Next(const Row& row, size_t length, char byte) const;

  // The least string behind `followed_` with that byte that may begin a near name.
  std::string Behind(char byte) const;

  const std::string name_;
  const size_t edits_;
  std::string followed_;   // as far as rows_ reach
  std::vector<Row> rows_;  // of its beginnings, the empty one first
};

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_PREFIX_DISTANCES_H_
