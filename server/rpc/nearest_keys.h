// Keys of a checkpoint near to those that it lacks, found by a bounded number of seeks.
#ifndef CKPT_SERVER_RPC_NEAREST_KEYS_H_
#define CKPT_SERVER_RPC_NEAREST_KEYS_H_

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/rpc/leaf_merge.h"

namespace ckpt {

// Of one checkpoint. What one key made it look at is kept for the next. One thread.
class NearestKeys {
 public:
  explicit NearestKeys(LeafMerge& leaves) : leaves_(leaves) {}

  // Up to `count`, nearest first, as NearestNames finds them among the checkpoint's first thousand
  // keys and those that are reached segment by segment, by the names nearest to the missing key's.
  absl::StatusOr<std::vector<std::string>> Find(absl::string_view missing, size_t count);

 private:
  absl::Status ReadFirstKeys();
  // The distinct names that follow `prefix`, each with the prefix: one seek for each.
  absl::StatusOr<const std::vector<std::string>*> NamesBelow(const std::string& prefix);

  LeafMerge& leaves_;
  std::optional<std::vector<std::string>> first_keys_;
  std::map<std::string, std::vector<std::string>> names_below_;
};

// NOT_FOUND where a key of `named` (printed) is in none of the checkpoints (one, or two that are
// compared): names the first ten of those that are not, each with the nearest.
absl::Status CheckKeysExist(absl::Span<const std::string> named,
                            absl::Span<LeafMerge* const> checkpoints);

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_NEAREST_KEYS_H_
