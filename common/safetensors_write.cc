// Header regions. Written as text directly: a part may have a million shards.

#include <algorithm>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/dtype.h"
#include "common/json_text.h"
#include "common/limits.h"
#include "common/manifest.h"
#include "common/safetensors.h"

namespace ckpt {
namespace {

constexpr absl::string_view kMetadataName = "__metadata__";

uint64_t Digits(uint64_t number) {
  uint64_t digits = 1;
  for (; number >= 10; number /= 10) ++digits;
  return digits;
}

// ,"NAME":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}
void AppendTensor(absl::string_view name, DType dtype, absl::Span<const uint64_t> shape,
                  uint64_t begin, uint64_t end, std::string& json) {
  if (json.back() != '{') json.push_back(',');
  AppendJsonString(name, json);
  absl::StrAppend(&json, ":{\"dtype\":\"", SafetensorsDTypeName(dtype), "\",\"shape\":");
  AppendJsonNumbers(shape, json);
  if (dtype == v1::DTYPE_C64) {
    json.pop_back();
    json += shape.empty() ? "2]" : ",2]";
  }
  json += ",\"data_offsets\":";
  AppendJsonNumbers({begin, end}, json);
  json.push_back('}');
}

// Adds the length prefix and the padding.
std::string Region(std::string json) {
  const uint64_t unpadded = kLengthPrefixBytes + json.size();
  const uint64_t padded =
      (unpadded + kDataAlignmentBytes - 1) / kDataAlignmentBytes * kDataAlignmentBytes;
  std::string region;
  region.reserve(padded);
  const uint64_t length = padded - kLengthPrefixBytes;
  for (int i = 0; i < 8; ++i) region.push_back(static_cast<char>(length >> (8 * i)));
  region += json;
  region.resize(padded, ' ');
  return region;
}

void AppendMetadata(absl::string_view name, absl::string_view value, std::string& json) {
  if (json.back() != '{') json.push_back(',');
  AppendJsonString(name, json);
  json.push_back(':');
  AppendJsonString(value, json);
}

// Names in one file: a leaf's first box has its key, further ones KEY#1, KEY#2...
class FileNames {
 public:
  explicit FileNames(absl::Span<const std::string> printed_keys) : printed_keys_(printed_keys) {}
  // Shards of one leaf come one after another.
  std::string Next(uint32_t leaf, const std::string& key) {
    if (leaf != leaf_) {
      leaf_ = leaf;
      next_number_ = 1;
      if (key != kMetadataName) return key;
    }
    if (!looked_) {
      // Only keys that look like a generated name can be in the way of one.
      for (const std::string& printed : printed_keys_) {
        if (printed.find('#') != std::string::npos) taken_.insert(printed);
      }
      looked_ = true;
    }
    std::string name;
    do {
      name = absl::StrCat(key, "#", next_number_++);
    } while (!taken_.insert(name).second);
    return name;
  }

 private:
  absl::Span<const std::string> printed_keys_;
  bool looked_ = false;
  absl::flat_hash_set<std::string> taken_;
  uint32_t leaf_ = UINT32_MAX;
  uint64_t next_number_ = 1;
};

std::string ValuesJson(const v1::Values& values, const PartLayout& layout) {
  std::string json = "{";
  for (const v1::Values::Entry& entry : values.entries()) {
    if (entry.leaf() >= layout.printed_keys().size()) continue;
    if (json.size() > 1) json.push_back(',');
    AppendJsonString(layout.printed_keys()[entry.leaf()], json);
    json.push_back(':');
    json += ValueToJson(entry.value());
  }
  json.push_back('}');
  return json;
}

void AppendShardNote(absl::string_view name, const v1::Leaf& leaf, const v1::Box& box,
                     std::string& notes) {
  if (notes.size() > 1) notes.push_back(',');
  AppendJsonString(name, notes);
  notes += ":{";
  if (leaf.dtype() == v1::DTYPE_C64) notes += "\"dtype\":\"C64\",";
  notes += "\"shape\":";
  AppendJsonNumbers(absl::MakeConstSpan(leaf.shape().data(), leaf.shape_size()), notes);
  notes += ",\"offset\":";
  AppendJsonNumbers(absl::MakeConstSpan(box.offset().data(), box.offset_size()), notes);
  notes += ",\"extent\":";
  AppendJsonNumbers(absl::MakeConstSpan(box.extent().data(), box.extent_size()), notes);
  notes.push_back('}');
}

bool IsWhole(const v1::Leaf& leaf, const v1::Box& box) {
  return std::equal(leaf.shape().begin(), leaf.shape().end(), box.extent().begin(),
                    box.extent().end());
}

}  // namespace

uint64_t HeaderBytesBound(const v1::Leaf& leaf, absl::string_view printed_key) {
  // The name stands in the header once escaped and in the `shards` note escaped twice: its quotes
  // are escaped there.
  uint64_t bytes = JsonStringBytes(printed_key) + 2;
  if (bytes == printed_key.size() + 2) {
    bytes += printed_key.size() + 4;
  } else {
    std::string escaped;
    AppendJsonString(printed_key, escaped);
    bytes += JsonStringBytes(escaped);
  }
  uint64_t digits = 0;
  for (const uint64_t extent : leaf.shape()) digits += Digits(extent) + 1;
  // Shape (or box) in the header; shape, offset, extent in the note; two offsets below 2^50; "#n"
  // twice; and everything that is always there.
  return bytes + 4 * digits + 320;
}

std::string MakeHeaderRegion(const PartLayout& layout, uint32_t file, const v1::Values& values,
                             const CheckpointId& id, uint32_t rank, uint32_t world_size) {
  const PartLayout::FilePlace& place = layout.files()[file];
  FileNames names(layout.printed_keys());
  std::string tensors = "{", notes = "{";
  for (uint32_t i = place.first_shard; i < place.first_shard + place.shard_count; ++i) {
    const v1::Shard& shard = layout.proto().shards(static_cast<int>(i));
    const v1::Leaf& leaf = layout.proto().leaves(static_cast<int>(shard.leaf()));
    const std::string name = names.Next(shard.leaf(), layout.printed_keys()[shard.leaf()]);
    const uint64_t begin = layout.shards()[i].part_offset - place.part_offset;
    AppendTensor(name, leaf.dtype(),
                 absl::MakeConstSpan(shard.box().extent().data(), shard.box().extent_size()), begin,
                 begin + layout.shards()[i].length, tensors);
    if (!IsWhole(leaf, shard.box()) || leaf.dtype() == v1::DTYPE_C64) {
      AppendShardNote(name, leaf, shard.box(), notes);
    }
  }
  notes.push_back('}');

  std::string json = "{\"__metadata__\":{";
  AppendMetadata("format", "ckptd", json);
  AppendMetadata("format_version", absl::StrCat(kFormatVersion), json);
  AppendMetadata("run", id.run, json);
  AppendMetadata("step", absl::StrCat(id.step), json);
  AppendMetadata("incarnation", id.incarnation.hex(), json);
  AppendMetadata("rank", absl::StrCat(rank), json);
  AppendMetadata("world_size", absl::StrCat(world_size), json);
  if (notes.size() > 2) AppendMetadata("shards", notes, json);
  if (file == 0 && values.entries_size() > 0) {
    const std::string text = ValuesJson(values, layout);
    const uint64_t room =
        kHeaderBytesMax - std::min<uint64_t>(kHeaderBytesMax, json.size() + tensors.size() + 8192);
    if (JsonStringBytes(text) < room) {
      AppendMetadata("values", text, json);
    } else {
      AppendMetadata("values_omitted", absl::StrCat(text.size(), " bytes"), json);
    }
  }
  json.push_back('}');
  if (tensors.size() > 1) {
    json.push_back(',');
    json.append(tensors, 1);
  }
  json.push_back('}');
  return Region(std::move(json));
}

std::string MakePlainHeaderRegion(absl::Span<const SafetensorsTensor> tensors,
                                  const std::map<std::string, std::string>& metadata) {
  std::string json = "{";
  if (!metadata.empty()) {
    json += "\"__metadata__\":{";
    for (const auto& [name, value] : metadata) AppendMetadata(name, value, json);
    json.push_back('}');
  }
  uint64_t offset = 0;
  for (const SafetensorsTensor& tensor : tensors) {
    uint64_t length = DTypeBytes(tensor.dtype);
    for (const uint64_t extent : tensor.shape) length *= extent;
    AppendTensor(tensor.name == kMetadataName ? "__metadata__#1" : tensor.name, tensor.dtype,
                 tensor.shape, offset, offset + length, json);
    offset += length;
  }
  json.push_back('}');
  return Region(std::move(json));
}

std::string ValueToJson(const v1::Value& value) {
  std::string out;
  switch (value.kind_case()) {
    case v1::Value::kBoolean:
      return value.boolean() ? "true" : "false";
    case v1::Value::kInteger:
      return absl::StrCat(value.integer());
    case v1::Value::kReal:
      AppendJsonDouble(value.real(), out);
      return out;
    case v1::Value::kText:
      AppendJsonString(value.text(), out);
      return out;
    case v1::Value::kRaw:
      AppendJsonString(absl::StrCat("base64:", absl::Base64Escape(value.raw())), out);
      return out;
    case v1::Value::kNull:
    case v1::Value::KIND_NOT_SET:
      break;
  }
  return "null";
}

}  // namespace ckpt
