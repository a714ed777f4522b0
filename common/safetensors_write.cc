// Headers of plain files, and the bound of ours (header_region.cc).

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/dtype.h"
#include "common/json_text.h"
#include "common/limits.h"
#include "common/safetensors.h"

namespace ckpt {
namespace {

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
  for (const uint64_t extent : shape) digits += JsonNumberBytes(extent) + 1;
  // Shape (or box) in the header; shape, offset, extent in the note; two offsets below 2^50; "#n"
  // twice; and everything that is always there.
  return bytes + 4 * digits + 320;
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
    AppendTensor(Quote(tensor.name == kSafetensorsMetadata ? "__metadata__#1" : tensor.name),
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
