#include "server/rpc/tensor_listing.h"

#include "common/status_macros.h"

namespace ckpt {

absl::StatusOr<std::shared_ptr<const TensorListing>> TensorListings::Get(
    const std::string& key, absl::FunctionRef<absl::StatusOr<TensorListing>()> make) {
  {
    MutexLock lock(mutex_);
    for (auto it = recent_.begin(); it != recent_.end(); ++it) {
      if (it->first != key) continue;
      recent_.splice(recent_.begin(), recent_, it);
      return recent_.front().second;
    }
  }
  CKPT_ASSIGN_OR_RETURN(TensorListing made, make());
  auto listing = std::make_shared<const TensorListing>(std::move(made));
  MutexLock lock(mutex_);
  recent_.emplace_front(key, listing);
  if (recent_.size() > kListingsMax) recent_.pop_back();
  return listing;
}

}  // namespace ckpt
