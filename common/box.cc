#include "common/box.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"

namespace ckpt {
namespace {

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

std::string PrintShape(absl::Span<const uint64_t> shape) {
  std::string out = "[";
  for (size_t d = 0; d < shape.size(); ++d) absl::StrAppend(&out, d > 0 ? ", " : "", shape[d]);
  return out + "]";
}

// Saturates.
uint64_t End(const Box& box, size_t d) {
  return box.offset[d] > kMax - box.extent[d] ? kMax : box.offset[d] + box.extent[d];
}

}  // namespace

Box Box::Whole(absl::Span<const uint64_t> shape) {
  Box box;
  box.offset.assign(shape.size(), 0);
  box.extent.assign(shape.begin(), shape.end());
  return box;
}

Box Box::FromProto(const v1::Box& proto) {
  Box box;
  box.offset.assign(proto.offset().begin(), proto.offset().end());
  box.extent.assign(proto.extent().begin(), proto.extent().end());
  return box;
}

void Box::ToProto(v1::Box* proto) const {
  proto->Clear();
  proto->mutable_offset()->Add(offset.begin(), offset.end());
  proto->mutable_extent()->Add(extent.begin(), extent.end());
}

uint64_t Box::volume() const {
  uint64_t volume = 1;
  for (const uint64_t n : extent) {
    if (n == 0) return 0;
    volume = volume > kMax / n ? kMax : volume * n;
  }
  return volume;
}

std::string Box::ToString() const {
  std::string out = "[";
  for (size_t d = 0; d < extent.size(); ++d) {
    if (d > 0) out += ", ";
    if (d < offset.size()) {
      absl::StrAppend(&out, offset[d], ":", End(*this, d));
    } else {
      absl::StrAppend(&out, "?:+", extent[d]);
    }
  }
  return out + "]";
}

std::strong_ordering operator<=>(const Box& a, const Box& b) {
  auto compare = [](const Extents& x, const Extents& y) {
    return std::lexicographical_compare_three_way(x.begin(), x.end(), y.begin(), y.end());
  };
  const std::strong_ordering by_offset = compare(a.offset, b.offset);
  return by_offset != 0 ? by_offset : compare(a.extent, b.extent);
}

std::optional<uint64_t> Volume(absl::Span<const uint64_t> shape) {
  constexpr uint64_t kVolumeMax = uint64_t{1} << 63;
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
  uint64_t volume = 1;
  for (const uint64_t n : shape) {
    if (volume > kVolumeMax / n) return std::nullopt;
    volume *= n;
  }
  return volume;
}

absl::Status ValidateBox(const Box& box, absl::Span<const uint64_t> shape) {
  auto refuse = [&](absl::string_view why) {
    return absl::InvalidArgumentError(
        absl::StrCat("bad box ", box.ToString(), " of shape ", PrintShape(shape), ": ", why));
  };
  if (box.extent.size() != shape.size() || box.offset.size() != shape.size()) {
    return refuse(absl::StrCat("it has ", box.offset.size(), " offsets and ", box.extent.size(),
                               " extents, the shape has ", shape.size(), " dimensions"));
  }
  for (size_t d = 0; d < shape.size(); ++d) {
    if (box.offset[d] > shape[d] || box.extent[d] > shape[d] - box.offset[d]) {
      return refuse(absl::StrCat("it leaves the shape in dimension ", d));
    }
  }
  return absl::OkStatus();
}

std::optional<Box> Intersect(const Box& a, const Box& b) {
  if (a.rank() != b.rank()) return std::nullopt;
  Box both;
  both.offset.resize(a.rank());
  both.extent.resize(a.rank());
  for (size_t d = 0; d < a.rank(); ++d) {
    const uint64_t begin = std::max(a.offset[d], b.offset[d]);
    const uint64_t end = std::min(End(a, d), End(b, d));
    if (begin >= end) return std::nullopt;
    both.offset[d] = begin;
    both.extent[d] = end - begin;
  }
  return both;
}

bool Contains(const Box& outer, const Box& inner) {
  if (outer.rank() != inner.rank()) return false;
  for (size_t d = 0; d < outer.rank(); ++d) {
    if (inner.offset[d] < outer.offset[d] || End(inner, d) > End(outer, d)) return false;
  }
  return true;
}

void ForEachRun(const Box& region, const Box& source, const Box& destination,
                absl::FunctionRef<void(uint64_t, uint64_t, uint64_t)> run) {
  const size_t rank = region.rank();
  if (region.empty()) return;
  // Strides, and the place of the region's first element, in both arrays.
  Extents source_stride(rank), destination_stride(rank);
  uint64_t source_at = 0, destination_at = 0, source_step = 1, destination_step = 1;
  for (size_t d = rank; d-- > 0;) {
    source_stride[d] = source_step;
    destination_stride[d] = destination_step;
    source_at += (region.offset[d] - source.offset[d]) * source_step;
    destination_at += (region.offset[d] - destination.offset[d]) * destination_step;
    source_step *= source.extent[d];
    destination_step *= destination.extent[d];
  }
  // Dimensions from `outer` on are one run: all but its first are whole in both arrays.
  size_t outer = rank;
  uint64_t length = 1;
  while (outer > 0) {
    --outer;
    length *= region.extent[outer];
    if (region.extent[outer] != source.extent[outer] ||
        region.extent[outer] != destination.extent[outer]) {
      break;
    }
  }
  // An odometer over the dimensions before `outer`.
  Extents index(outer, 0);
  while (true) {
    run(source_at, destination_at, length);
    size_t d = outer;
    while (d > 0) {
      --d;
      source_at += source_stride[d];
      destination_at += destination_stride[d];
      if (++index[d] < region.extent[d]) break;
      source_at -= source_stride[d] * region.extent[d];
      destination_at -= destination_stride[d] * region.extent[d];
      index[d] = 0;
      if (d == 0) return;
    }
    if (outer == 0) return;
  }
}

}  // namespace ckpt
