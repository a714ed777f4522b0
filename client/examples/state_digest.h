// SHA-256 over everything that decides how training goes on: two runs with equal digests at a step
// are equal from there on, bit by bit.
#ifndef CKPT_CLIENT_EXAMPLES_STATE_DIGEST_H_
#define CKPT_CLIENT_EXAMPLES_STATE_DIGEST_H_

#include <string>

#include "absl/status/status.h"
#include "client/examples/data_parallel.h"
#include "client/examples/sharded_adamw.h"
#include "client/examples/text.h"

namespace train_lm {

// Collective. Rank 0 appends to `path`:
//   step 000040 parameters HEX
//   step 000040 rank 0 optimizer HEX reader HEX
//   ...
// INTERNAL where the ranks' parameters, which are replicas, differ.
absl::Status WriteStateDigests(const std::string& path, int64_t step, const ShardedAdamW& optimizer,
                               const ReaderPosition& reader, DataParallel& group);

}  // namespace train_lm

#endif  // CKPT_CLIENT_EXAMPLES_STATE_DIGEST_H_
