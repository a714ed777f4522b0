// The leaves of a restore plan: those that a selection asks for, in the order of their keys, each
// with its pieces; then the tied ones. One pass over the checkpoint's leaves; what is kept of them
// is a name for each tied leaf.
//
// Tied leaves share their storage with others, as aliases or as the leaf that holds the bytes of
// some. They come last, because only then it is known what all of them together need of it:
// storage first, whether it was selected or not, then its aliases.
#ifndef CKPT_SERVER_RPC_PLAN_LEAVES_H_
#define CKPT_SERVER_RPC_PLAN_LEAVES_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "ckpt/v1/restore.pb.h"
#include "server/rpc/caller.h"
#include "server/rpc/leaf_merge.h"
#include "server/rpc/leaf_selection.h"
#include "server/rpc/plan_writer.h"

namespace ckpt {

// One call of PlanRestore; one thread.
class PlanLeaves {
 public:
  PlanLeaves(const LeafSelection& selection, LeafMerge& leaves, PlanWriter& writer)
      : selection_(selection), leaves_(leaves), writer_(writer) {}

  // Counts leaves, tensors and bytes into `summary`. INVALID_ARGUMENT: a slice's box does not lie
  // in its tensor. Otherwise the errors of selection, merge and writer.
  absl::Status Run(Cancelled cancelled, v1::PlanSummary& summary);

 private:
  // A selected leaf, by the storage that it is tied to.
  struct Tied {
    std::string key;
    uint32_t rank = 0;  // a part that declares it
  };

  absl::Status AddSelected(v1::PlanSummary& summary);
  absl::Status AddTied(const std::string& storage_key, const std::vector<Tied>& tied,
                       v1::PlanSummary& summary);
  // The aliases `key` among `tied`, once their storage has numbers (by rank).
  absl::Status AddAliases(const std::string& key, const std::vector<Tied>& tied,
                          const absl::flat_hash_map<uint32_t, uint32_t>& numbers);
  // What is asked of the leaf `key`, once its boxes were checked against that shape.
  absl::Status AddNeed(absl::string_view key, const v1::Leaf& leaf, Need& need) const;
  // The pieces of the leaf at hand, which was added. Its number.
  absl::StatusOr<uint32_t> AddStored(const v1::PlannedLeaf& leaf, const Need& need,
                                     v1::PlanSummary& summary);

  const LeafSelection& selection_;
  LeafMerge& leaves_;
  PlanWriter& writer_;
  std::map<std::string, std::vector<Tied>> tied_;  // by the printed key of the storage
};

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_PLAN_LEAVES_H_
