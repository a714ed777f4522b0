// REPLICATED leaves are equal on all ranks of a share and stored once: which rank writes which box
// follows from the list alone, so the ranks need not talk to each other. The list's digest travels
// with each plan: ranks whose lists differ are told so.
//
// Rule: lay the replicated tensors end to end in printed-key order, total T bytes, and cut at i*T/n
// for i in 1..n-1. Member i of the share (by position in its sorted rank list) writes what lies
// between cuts i and i+1. A tensor that a cut falls into is divided along its first dimension of
// extent > 1, at the row nearest to the cut. Replicated values and strings are written by member 0.
#ifndef CKPT_COMMON_REPLICATION_H_
#define CKPT_COMMON_REPLICATION_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "common/box.h"
#include "common/leaf_table.h"

namespace ckpt {

// The box that member `member` of `members` writes of each leaf of `leaves` (same length and order
// as `leaves`): a box that is empty() where it writes nothing, or where the leaf is not a
// REPLICATED tensor-like leaf, or is an alias. The boxes of all members tile every tensor. A box
// that is empty() has the leaf's rank, but one dimension (of extent 0) for a leaf of none, since a
// 0-dimensional box always holds an element. STRING_BYTES and RAW_BYTES count as strings: member 0
// writes them whole.
std::vector<Box> ReplicatedBoxes(absl::Span<const LeafView> leaves, uint32_t member,
                                 uint32_t members);

// The same idea for a box that `replica_count` ranks hold alike: which sub-box replica
// `replica_index` writes (possibly empty).
Box ReplicaBox(const Box& box, uint32_t replica_index, uint32_t replica_count);

// SHA-256 over (printed key, kind, dtype, shape, alias target) of every REPLICATED leaf, in
// printed-key order. 32 raw bytes.
std::string ReplicatedDigest(absl::Span<const LeafView> leaves);

}  // namespace ckpt

#endif  // CKPT_COMMON_REPLICATION_H_
