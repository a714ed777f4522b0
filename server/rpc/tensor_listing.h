// The tensors of one checkpoint under one selection, sorted by printed key: made once, then read
// page by page.
#ifndef CKPT_SERVER_RPC_TENSOR_LISTING_H_
#define CKPT_SERVER_RPC_TENSOR_LISTING_H_

#include <list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "ckpt/v1/catalog.pb.h"
#include "common/mutex.h"

namespace ckpt {

using TensorListing = std::vector<v1::TensorInfo>;

// The few that were used last. Thread-safe. Checkpoints never change, so an entry is never wrong.
class TensorListings {
 public:
  // `make` runs without the lock: two callers may make the same one.
  absl::StatusOr<std::shared_ptr<const TensorListing>> Get(
      const std::string& key, absl::FunctionRef<absl::StatusOr<TensorListing>()> make);

 private:
  static constexpr size_t kListingsMax = 4;
  Mutex mutex_;
  std::list<std::pair<std::string, std::shared_ptr<const TensorListing>>> recent_
      ABSL_GUARDED_BY(mutex_);  // last used first
};

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_TENSOR_LISTING_H_
