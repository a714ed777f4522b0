// Header regions. Written as text directly: a part may have a million shards.

#include <utility>

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

// Of a shard in the header, beside its name: what one of few dimensions takes.
constexpr uint64_t kTensorBytesUsual = 80;
constexpr uint64_t kNoteBytesUsual = 80;
constexpr uint64_t kTensorBytesMax = 512;
constexpr uint64_t kNameBytesGrowMax = 6;  // of a byte in JSON
constexpr uint64_t kMetadataBytesUsual = 8192;

uint64_t Digits(uint64_t number) {
  uint64_t digits = 1;
  for (; number >= 10; number /= 10) ++digits;
  return digits;
}

// ,"NAME":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}
void AppendTensor(absl::string_view quoted_name, DType dtype, absl::Span<const uint64_t> shape,
                  uint64_t begin, uint64_t end, std::string& json) {
  if (json.back() != '{') json.push_back(',');
  absl::StrAppend(&json, quoted_name, ":{\"dtype\":\"", SafetensorsDTypeName(dtype),
                  "\",\"shape\":");
  AppendJsonNumbers(shape, json);
  if (dtype == v1::DTYPE_C64) {
    json.pop_back();
    json += shape.empty() ? "2]" : ",2]";
  }
  json += ",\"data_offsets\":";
  AppendJsonNumbers({begin, end}, json);
  json.push_back('}');
}

// A region in the making: room for its length, and JSON after that.
std::string BeginRegion() { return std::string(kLengthPrefixBytes, '\0'); }

// Adds the padding and the length.
void EndRegion(std::string& region) {
  const uint64_t padded =
      (region.size() + kDataAlignmentBytes - 1) / kDataAlignmentBytes * kDataAlignmentBytes;
  region.resize(padded, ' ');
  const uint64_t length = padded - kLengthPrefixBytes;
  for (size_t i = 0; i < kLengthPrefixBytes; ++i) {
    region[i] = static_cast<char>(length >> (8 * i));
  }
}

std::string Quote(absl::string_view name) {
  std::string quoted;
  AppendJsonString(name, quoted);
  return quoted;
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
  explicit FileNames(const LeafTable& leaves) : leaves_(leaves) {}
  // Shards of one leaf come one after another. Good until the next call.
  absl::string_view Next(uint32_t leaf, absl::string_view key) {
    if (leaf != leaf_) {
      leaf_ = leaf;
      next_number_ = 1;
      if (key != kMetadataName) return key;
    }
    if (!looked_) {
      // Only keys that look like a generated name can be in the way of one.
      for (size_t i = 0; i < leaves_.size(); ++i) {
        const absl::string_view printed = leaves_.printed_key(i);
        if (printed.find('#') != absl::string_view::npos) taken_.emplace(printed);
      }
      looked_ = true;
    }
    do {
      name_ = absl::StrCat(key, "#", next_number_++);
    } while (!taken_.insert(name_).second);
    return name_;
  }

 private:
  const LeafTable& leaves_;
  bool looked_ = false;
  absl::flat_hash_set<std::string> taken_;
  std::string name_;
  uint32_t leaf_ = UINT32_MAX;
  uint64_t next_number_ = 1;
};

std::string ValuesJson(const v1::Values& values, const PartLayout& layout) {
  std::string json = "{";
  for (const v1::Values::Entry& entry : values.entries()) {
    if (entry.leaf() >= layout.leaves().size()) continue;
    if (json.size() > 1) json.push_back(',');
    AppendJsonString(layout.leaves().printed_key(entry.leaf()), json);
    json.push_back(':');
    json += ValueToJson(entry.value());
  }
  json.push_back('}');
  return json;
}

// As it stands in a JSON string, with every quote escaped: the note of a shard that is less than
// its tensor, `\"NAME\":{\"shape\":[4],\"offset\":[0],\"extent\":[2]}`.
void AppendEscapedNote(absl::string_view quoted_name, const LeafView& leaf,
                       const ShardView& box, std::string& json) {
  AppendJsonEscaped(quoted_name, json);
  json += ":{";
  if (leaf.dtype == v1::DTYPE_C64) json += R"(\"dtype\":\"C64\",)";
  json += R"(\"shape\":)";
  AppendJsonNumbers(leaf.shape, json);
  json += R"(,\"offset\":)";
  AppendJsonNumbers(box.offset, json);
  json += R"(,\"extent\":)";
  AppendJsonNumbers(box.extent, json);
  json.push_back('}');
}

bool HasNote(const LeafView& leaf, const ShardView& shard) {
  return leaf.shape != shard.extent || leaf.dtype == v1::DTYPE_C64;
}

void AppendNotes(const PartLayout& layout, const PartLayout::FilePlace& place, std::string& json) {
  FileNames names(layout.leaves());
  std::string name;
  bool first = true;
  for (uint32_t i = place.first_shard; i < place.first_shard + place.shard_count; ++i) {
    const ShardView shard = layout.shard_boxes()[i];
    const LeafView leaf = layout.leaves()[shard.leaf];
    const absl::string_view name_in_file = names.Next(shard.leaf, leaf.printed_key);
    if (!HasNote(leaf, shard)) continue;
    if (!std::exchange(first, false)) json.push_back(',');
    name.clear();
    AppendJsonString(name_in_file, name);
    AppendEscapedNote(name, leaf, shard, json);
  }
}

void AppendTensors(const PartLayout& layout, const PartLayout::FilePlace& place,
                   std::string& json) {
  FileNames names(layout.leaves());
  std::string name;
  for (uint32_t i = place.first_shard; i < place.first_shard + place.shard_count; ++i) {
    const ShardView shard = layout.shard_boxes()[i];
    const LeafView leaf = layout.leaves()[shard.leaf];
    name.clear();
    AppendJsonString(names.Next(shard.leaf, leaf.printed_key), name);
    const uint64_t begin = layout.shards()[i].part_offset - place.part_offset;
    AppendTensor(name, leaf.dtype, shard.extent, begin, begin + layout.shards()[i].length, json);
  }
}

}  // namespace

uint64_t HeaderBytesBound(absl::Span<const uint64_t> shape, absl::string_view printed_key) {
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
  for (const uint64_t extent : shape) digits += Digits(extent) + 1;
  // Shape (or box) in the header; shape, offset, extent in the note; two offsets below 2^50; "#n"
  // twice; and everything that is always there.
  return bytes + 4 * digits + 320;
}

std::string MakeHeaderRegion(const PartLayout& layout, uint32_t file, const v1::Values& values,
                             const CheckpointId& id, uint32_t rank, uint32_t world_size) {
  const PartLayout::FilePlace& place = layout.files()[file];
  std::string json = BeginRegion();
  json += "{\"__metadata__\":{";
  AppendMetadata("format", "ckptd", json);
  AppendMetadata("format_version", absl::StrCat(kFormatVersion), json);
  AppendMetadata("run", id.run, json);
  AppendMetadata("step", absl::StrCat(id.step), json);
  AppendMetadata("incarnation", id.incarnation.hex(), json);
  AppendMetadata("rank", absl::StrCat(rank), json);
  AppendMetadata("world_size", absl::StrCat(world_size), json);

  uint64_t names_bytes = 0;
  uint64_t notes = 0;
  for (uint32_t i = place.first_shard; i < place.first_shard + place.shard_count; ++i) {
    const ShardView shard = layout.shard_boxes()[i];
    const LeafView leaf = layout.leaves()[shard.leaf];
    names_bytes += leaf.printed_key.size();
    if (HasNote(leaf, shard)) ++notes;
  }
  // It grows to megabytes, shard by shard: room at once, so that nothing is moved.
  json.reserve(json.size() + (notes > 0 ? 2 : 1) * names_bytes +
               place.shard_count * kTensorBytesUsual + notes * kNoteBytesUsual +
               kMetadataBytesUsual);
  if (notes > 0) {
    json += ",\"shards\":\"{";
    AppendNotes(layout, place, json);
    json += "}\"";
  }

  if (file == 0 && values.entries_size() > 0) {
    const std::string text = ValuesJson(values, layout);
    const auto fit = [&](uint64_t tensors_bytes) {
      return json.size() + tensors_bytes + 8192 + JsonStringBytes(text) < kHeaderBytesMax;
    };
    bool all_fits = fit(names_bytes * kNameBytesGrowMax + place.shard_count * kTensorBytesMax);
    if (!all_fits) {
      std::string tensors = "{";
      AppendTensors(layout, place, tensors);
      all_fits = fit(tensors.size());
    }
    if (all_fits) {
      AppendMetadata("values", text, json);
    } else {
      AppendMetadata("values_omitted", absl::StrCat(text.size(), " bytes"), json);
    }
  }
  json.push_back('}');
  AppendTensors(layout, place, json);
  json.push_back('}');
  EndRegion(json);
  return json;
}

std::string MakePlainHeaderRegion(absl::Span<const SafetensorsTensor> tensors,
                                  const std::map<std::string, std::string>& metadata) {
  std::string json = BeginRegion();
  json.push_back('{');
  if (!metadata.empty()) {
    json += "\"__metadata__\":{";
    for (const auto& [name, value] : metadata) AppendMetadata(name, value, json);
    json.push_back('}');
  }
  uint64_t offset = 0;
  for (const SafetensorsTensor& tensor : tensors) {
    uint64_t length = DTypeBytes(tensor.dtype);
    for (const uint64_t extent : tensor.shape) length *= extent;
    AppendTensor(Quote(tensor.name == kMetadataName ? "__metadata__#1" : tensor.name),
                 tensor.dtype, tensor.shape, offset, offset + length, json);
    offset += length;
  }
  json.push_back('}');
  EndRegion(json);
  return json;
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
