#include "common/key.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/limits.h"
#include "common/quoted.h"
#include "common/status_macros.h"
#include "common/utf8.h"
#include "common/varint.h"

namespace ckpt {
namespace {

// How fields are written: their number, and whether a length follows.
constexpr uint64_t kSegments = v1::Key::kSegmentsFieldNumber << 3 | 2;
constexpr uint64_t kName = v1::KeySegment::kNameFieldNumber << 3 | 2;
constexpr uint64_t kNumber = v1::KeySegment::kNumberFieldNumber << 3;
constexpr uint64_t kIndex = v1::KeySegment::kIndexFieldNumber << 3;

absl::Status BadSegment(absl::string_view printed, size_t segment, absl::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat("bad key ", Quoted(printed), ": segment ", segment, " ", why));
}

absl::Status NotCanonical() {
  return absl::InvalidArgumentError("bad key: not in Protobuf's canonical form");
}

absl::Status CheckSegmentCount(size_t count) {
  if (count == 0) return absl::InvalidArgumentError("bad key: it has no segment");
  if (count <= kKeySegmentsMax) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("bad key: ", count, " segments, at most ",
                                                 kKeySegmentsMax, " are allowed"));
}

absl::Status CheckPrintedBytes(absl::string_view printed) {
  if (printed.size() <= kKeyBytesMax) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "bad key ", Quoted(printed), ": printed it is longer than ", kKeyBytesMax, " bytes"));
}

}  // namespace

Key::Key(const v1::Key& proto) {
  // By hand: Protobuf complains on stderr of strings that are no UTF-8. A save refuses them later.
  for (const v1::KeySegment& segment : proto.segments()) {
    std::string text;
    switch (segment.kind_case()) {
      case v1::KeySegment::kName:
        PutVarint(text, kName);
        PutText(text, segment.name());
        break;
      case v1::KeySegment::kNumber: {
        const auto number = static_cast<uint64_t>(segment.number());
        PutVarint(text, kNumber);
        PutVarint(text, number << 1 ^ (segment.number() < 0 ? ~uint64_t{0} : 0));
        break;
      }
      case v1::KeySegment::kIndex:
        PutVarint(text, kIndex);
        PutVarint(text, segment.index());
        break;
      case v1::KeySegment::KIND_NOT_SET:
        break;
    }
    PutVarint(serialized_, kSegments);
    PutText(serialized_, text);
  }
}

v1::Key Key::ToProto() const {
  v1::Key proto;
  proto.ParseFromString(serialized_);
  return proto;
}

std::string PrintKey(const Key& key) {
  std::string printed;
  size_t top_level_bytes = 0;
  internal::AppendPrintedKey(key.serialized(), printed, top_level_bytes).IgnoreError();
  return printed;  // of what is wrong, up to there
}

std::string PrintKey(const v1::Key& key) {
  std::string out;
  bool first = true;
  for (const v1::KeySegment& segment : key.segments()) {
    if (!first) out.push_back('.');
    first = false;
    switch (segment.kind_case()) {
      case v1::KeySegment::kName:
        out += segment.name();
        break;
      case v1::KeySegment::kNumber:
        absl::StrAppend(&out, segment.number());
        break;
      case v1::KeySegment::kIndex:
        absl::StrAppend(&out, segment.index());
        break;
      case v1::KeySegment::KIND_NOT_SET:
        break;
    }
  }
  return out;
}

absl::Status ValidateKey(const v1::Key& key) {
  const std::string printed = PrintKey(key);
  CKPT_RETURN_IF_ERROR(CheckSegmentCount(static_cast<size_t>(key.segments_size())));
  for (int i = 0; i < key.segments_size(); ++i) {
    const v1::KeySegment& segment = key.segments(i);
    if (segment.kind_case() == v1::KeySegment::KIND_NOT_SET) {
      return BadSegment(printed, static_cast<size_t>(i), "has no kind");
    }
    if (segment.kind_case() == v1::KeySegment::kName && !IsUtf8(segment.name())) {
      return BadSegment(printed, static_cast<size_t>(i), "is not valid UTF-8");
    }
  }
  return CheckPrintedBytes(printed);
}

absl::Status internal::AppendPrintedKey(absl::string_view serialized, std::string& out,
                                        size_t& top_level_bytes) {
  const size_t begin = out.size();
  const auto printed = [&] { return absl::string_view(out).substr(begin); };
  VarintReader reader(serialized);
  size_t count = 0;
  top_level_bytes = 0;
  for (; !reader.rest().empty(); ++count) {
    if (count == 1) top_level_bytes = out.size() - begin;
    if (count > 0) out.push_back('.');
    const uint64_t field = reader.Varint();
    VarintReader segment(reader.Text());
    if (!reader.ok() || field != kSegments) return NotCanonical();
    if (segment.rest().empty()) return BadSegment(printed(), count, "has no kind");
    switch (segment.Varint()) {
      case kName: {
        const absl::string_view name = segment.Text();
        out.append(name.data(), name.size());
        if (!IsUtf8(name)) return BadSegment(printed(), count, "is not valid UTF-8");
        break;
      }
      case kNumber: {
        const uint64_t zigzag = segment.Varint();
        absl::StrAppend(&out, static_cast<int64_t>(zigzag >> 1 ^ (~(zigzag & 1) + 1)));
        break;
      }
      case kIndex: {
        const uint64_t index = segment.Varint();
        if (index > UINT32_MAX) return NotCanonical();
        absl::StrAppend(&out, index);
        break;
      }
      default:
        return NotCanonical();
    }
    if (!segment.ok() || !segment.canonical() || !segment.rest().empty()) return NotCanonical();
  }
  if (!reader.ok() || !reader.canonical()) return NotCanonical();
  if (count == 1) top_level_bytes = out.size() - begin;
  CKPT_RETURN_IF_ERROR(CheckSegmentCount(count));
  return CheckPrintedBytes(printed());
}

v1::Key MakeKey(absl::Span<const absl::string_view> names) {
  v1::Key key;
  for (const absl::string_view name : names) key.add_segments()->set_name(std::string(name));
  return key;
}

}  // namespace ckpt
