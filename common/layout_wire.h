// A first look at a serialized layout, before protobuf makes objects of it: counts and sizes of
// what is inside. A few bytes on the wire can become hundreds in memory, and layouts come from
// anybody.
#ifndef CKPT_COMMON_LAYOUT_WIRE_H_
#define CKPT_COMMON_LAYOUT_WIRE_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace ckpt::internal {

// INVALID_ARGUMENT: past the limits of limits.h, or not the wire format. Bounds the memory that
// parsing takes to a small multiple of what an honest layout of that many leaves takes.
absl::Status CheckLayoutWire(absl::string_view serialized);

}  // namespace ckpt::internal

#endif  // CKPT_COMMON_LAYOUT_WIRE_H_
