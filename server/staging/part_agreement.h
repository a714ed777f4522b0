// Do the parts of a share fit together? Looked at once all layouts are known, before anybody copies
// bytes where that is possible.
#ifndef CKPT_SERVER_STAGING_PART_AGREEMENT_H_
#define CKPT_SERVER_STAGING_PART_AGREEMENT_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "common/layout.h"

namespace ckpt {

struct RankLayout {
  uint32_t rank = 0;
  std::shared_ptr<const PartLayout> layout;
};

// `parts` in rank order; `whole_world`: the share is all of the world, so SHARDED boxes must cover
// their tensor (a smaller share's gaps are other shares' boxes). INVALID_ARGUMENT names the key and
// the ranks:
//   - replicated lists must be the same
//   - a REPLICATED or SHARDED leaf has one placement, kind, dtype and shape on all ranks that
//     declare it
//   - boxes of all ranks must not overlap; REPLICATED ones must cover their tensor, and PER_RANK
//     ones that rank's tensor
absl::Status CheckAgreement(const std::vector<RankLayout>& parts, bool whole_world);

}  // namespace ckpt

#endif  // CKPT_SERVER_STAGING_PART_AGREEMENT_H_
