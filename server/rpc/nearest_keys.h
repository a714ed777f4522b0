// Keys of a checkpoint near to one that it lacks, found by a bounded number of seeks.
#ifndef CKPT_SERVER_RPC_NEAREST_KEYS_H_
#define CKPT_SERVER_RPC_NEAREST_KEYS_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/rpc/leaf_merge.h"

namespace ckpt {

// Up to `count`, nearest first, as NearestNames finds them among the checkpoint's first thousand
// keys and those that are reached segment by segment, by the names nearest to the missing key's.
absl::StatusOr<std::vector<std::string>> NearestKeys(LeafMerge& leaves,
                                                     absl::string_view missing, size_t count);

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_NEAREST_KEYS_H_
