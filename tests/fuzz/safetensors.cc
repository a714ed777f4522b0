// Also with a file that is far longer than what was read of it.
#include "common/safetensors.h"

#include <string>

#include "common/dtype.h"
#include "tests/fuzz/targets.h"

namespace ckpt::fuzz {
namespace {

void FuzzSafetensors(absl::string_view bytes) {
  for (const uint64_t file_bytes : {uint64_t{bytes.size()}, uint64_t{1} << 40}) {
    const auto region = SafetensorsRegionBytes(bytes.substr(0, kLengthPrefixBytes), file_bytes);
    if (!region.ok() || *region > bytes.size()) continue;
    const auto header = ParseSafetensorsHeader(bytes.substr(0, *region), file_bytes);
    if (!header.ok()) continue;
    uint64_t end = 0;
    for (const SafetensorsTensor& tensor : header->tensors) {
      Require(tensor.begin == end && tensor.end >= tensor.begin, "tensors lie without holes");
      end = tensor.end;
    }
    Require(header->header_region_bytes + end <= file_bytes, "tensors lie within the file");
    // What was read can be written, and is read the same again.
    const std::string again = MakePlainHeaderRegion(header->tensors, header->metadata);
    const auto same = ParseSafetensorsHeader(again, again.size() + end);
    Require(same.ok(), "a header of ours is read");
    Require(same->metadata == header->metadata, "metadata is kept");
    Require(same->tensors.size() == header->tensors.size(), "tensors are kept");
    for (size_t i = 0; i < same->tensors.size(); ++i) {
      const SafetensorsTensor& was = header->tensors[i];
      const SafetensorsTensor& is = same->tensors[i];
      Require(was.begin == is.begin && was.end == is.end, "places are kept");
      if (was.begin == was.end) continue;  // of several empty ones at one place the order is open
      Require(was.name == is.name && was.dtype == is.dtype && was.shape == is.shape,
              "names, dtypes and shapes are kept");
    }
  }
}

const Registration kSafetensors("safetensors", FuzzSafetensors);

}  // namespace
}  // namespace ckpt::fuzz
