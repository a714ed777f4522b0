#include "common/layout_wire.h"

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "ckpt/v1/checkpoint.pb.h"
#include "common/limits.h"
#include "common/quoted.h"
#include "common/status_macros.h"
#include "common/utf8.h"

namespace ckpt::internal {
namespace {

constexpr size_t kFieldsPerMessageMax = 4 * kKeySegmentsMax;
constexpr size_t kLeafWireBytesMax = 16384;
constexpr size_t kShardWireBytesMax = 1024;
constexpr size_t kNumbersWireBytesMax = kDimensionsMax * 10;  // packed varints
static_assert(kLeafWireBytesMax > kKeyBytesMax + kKeySegmentsMax * 16 + kNumbersWireBytesMax);
static_assert(kShardWireBytesMax > 2 * kNumbersWireBytesMax + 32);

bool ReadVarint(absl::string_view& bytes, uint64_t& value) {
  value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    if (bytes.empty()) return false;
    const uint64_t byte = static_cast<unsigned char>(bytes[0]);
    bytes.remove_prefix(1);
    value |= (byte & 0x7f) << shift;
    if (byte < 0x80) return true;
  }
  return false;
}

absl::Status Malformed() { return absl::InvalidArgumentError("bad layout: it does not parse"); }

// Calls `field(number, payload)` for each length-delimited field; others are only counted.
absl::Status ForEachField(
    absl::string_view message, size_t fields_max,
    absl::FunctionRef<absl::Status(uint64_t number, absl::string_view payload)> field) {
  size_t fields = 0;
  while (!message.empty()) {
    if (++fields > fields_max) {
      return absl::InvalidArgumentError("bad layout: a message in it has too many fields");
    }
    uint64_t tag = 0, length = 0;
    if (!ReadVarint(message, tag)) return Malformed();
    switch (tag & 7) {
      case 0:
        if (!ReadVarint(message, length)) return Malformed();
        break;
      case 1:
      case 5: {
        const size_t fixed = (tag & 7) == 1 ? 8 : 4;
        if (message.size() < fixed) return Malformed();
        message.remove_prefix(fixed);
        break;
      }
      case 2:
        if (!ReadVarint(message, length) || length > message.size()) return Malformed();
        CKPT_RETURN_IF_ERROR(field(tag >> 3, message.substr(0, length)));
        message.remove_prefix(length);
        break;
      default:
        return Malformed();  // groups: nothing of ours
    }
  }
  return absl::OkStatus();
}

// Protobuf would refuse it too, but with a line on standard error for each.
absl::Status CheckText(uint64_t number, absl::string_view text) {
  if (number != v1::KeySegment::kNameFieldNumber || IsUtf8(text)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("bad layout: a key that is not valid UTF-8: ", Quoted(text)));
}

absl::Status CheckNumbers(absl::string_view packed) {
  if (packed.size() <= kNumbersWireBytesMax) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("bad layout: more than ", kDimensionsMax, " dimensions"));
}

absl::Status CheckLeaf(absl::string_view leaf) {
  if (leaf.size() > kLeafWireBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("bad layout: a leaf of ", leaf.size(), " bytes; its key is too long"));
  }
  return ForEachField(leaf, kFieldsPerMessageMax, [](uint64_t number, absl::string_view payload) {
    if (number == v1::Leaf::kKeyFieldNumber) {
      return ForEachField(payload, kFieldsPerMessageMax, [](uint64_t, absl::string_view segment) {
        return ForEachField(segment, kFieldsPerMessageMax, CheckText);
      });
    }
    return number == v1::Leaf::kShapeFieldNumber ? CheckNumbers(payload) : absl::OkStatus();
  });
}

absl::Status CheckShard(absl::string_view shard) {
  if (shard.size() > kShardWireBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("bad layout: a shard of ", shard.size(), " bytes"));
  }
  return ForEachField(shard, kFieldsPerMessageMax, [](uint64_t number, absl::string_view payload) {
    if (number != v1::Shard::kBoxFieldNumber) return absl::OkStatus();
    return ForEachField(payload, kFieldsPerMessageMax,
                        [](uint64_t, absl::string_view numbers) { return CheckNumbers(numbers); });
  });
}

}  // namespace

absl::Status CheckLayoutWire(absl::string_view serialized) {
  if (serialized.size() > kLayoutBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "bad layout: ", serialized.size(), " bytes, at most ", kLayoutBytesMax, " are allowed"));
  }
  size_t leaves = 0, shards = 0;
  return ForEachField(serialized, kLeavesPerPartMax + kShardsPerPartMax + kFieldsPerMessageMax,
                      [&](uint64_t number, absl::string_view payload) {
                        if (number == v1::Layout::kLeavesFieldNumber) {
                          if (++leaves <= kLeavesPerPartMax) return CheckLeaf(payload);
                          return absl::InvalidArgumentError(
                              absl::StrCat("bad layout: more than ", kLeavesPerPartMax, " leaves"));
                        }
                        if (number == v1::Layout::kShardsFieldNumber) {
                          if (++shards <= kShardsPerPartMax) return CheckShard(payload);
                          return absl::InvalidArgumentError(
                              absl::StrCat("bad layout: more than ", kShardsPerPartMax, " shards"));
                        }
                        return absl::OkStatus();
                      });
}

}  // namespace ckpt::internal
