// How a leaf of a checkpoint looks to people and to programs.
#ifndef CKPT_CLIENT_CLI_LEAF_RECORD_H_
#define CKPT_CLIENT_CLI_LEAF_RECORD_H_

#include <cstdint>
#include <string>

#include "ckpt/v1/checkpoint.pb.h"
#include "client/cli/output.h"

namespace ckpt::cli {

std::string TypeText(const v1::Leaf& leaf);                      // F32, value, {}, string
std::string ShapeText(const v1::Leaf& leaf);                     // [2, 3]; empty: not a tensor
std::string PlacementText(const v1::Leaf& leaf, uint32_t rank);  // replicated, sharded, rank 3
std::string ValueText(const v1::Value& value);                   // as JSON, cut where it is long

// kind, dtype and shape (of tensors), placement.
Json LeafJson(const v1::Leaf& leaf);
Json ValueRecord(const v1::Value& value);
// null, boolean, integer, real, string or bytes: JSON alone has no bytes, no NaN and no infinities.
std::string ValueTypeName(const v1::Value& value);

// "3 tensors and 2 values, 1.2 GiB"
std::string TotalText(uint64_t tensors, uint64_t others, uint64_t bytes);

}  // namespace ckpt::cli

#endif  // CKPT_CLIENT_CLI_LEAF_RECORD_H_
