// Which leaves of a plan have a given key, in some dozen bytes a leaf beside the key's own.
#ifndef CKPT_CLIENT_RESTORE_PRINTED_KEYS_H_
#define CKPT_CLIENT_RESTORE_PRINTED_KEYS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "ckpt/v1/restore.pb.h"

namespace ckpt {

// The keys of a plan's leaves as they print, packed, and the leaves in the order of their keys.
// Refers to nothing that it was made from; any thread may read it.
class PrintedKeys {
 public:
  PrintedKeys() = default;
  explicit PrintedKeys(absl::Span<const v1::PlannedLeaf> leaves);

  absl::string_view operator[](uint32_t leaf) const;
  absl::Span<const uint32_t> sorted() const { return sorted_; }
  // The leaves of that key (one for each rank of a per-rank leaf), ascending.
  absl::Span<const uint32_t> Find(absl::string_view key) const;

 private:
  std::string text_;
  std::vector<uint64_t> ends_;  // in text_, by leaf
  std::vector<uint32_t> sorted_;
};

}  // namespace ckpt

#endif  // CKPT_CLIENT_RESTORE_PRINTED_KEYS_H_
