#include "client/cli/leaf_record.h"

#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "common/byte_size.h"
#include "common/dtype.h"
#include "common/layout.h"
#include "common/safetensors.h"
#include "common/utf8.h"

namespace ckpt::cli {
namespace {

constexpr size_t kValueBytesShown = 60;

std::string PlacementName(const v1::Leaf& leaf) {
  return absl::AsciiStrToLower(
      absl::StripPrefix(v1::Placement_Name(leaf.placement()), "PLACEMENT_"));
}

}  // namespace

std::string TypeText(const v1::Leaf& leaf) {
  switch (leaf.kind()) {
    case v1::LEAF_KIND_TENSOR:
      return std::string(DTypeName(leaf.dtype()));
    case v1::LEAF_KIND_VALUE:
      return "value";
    case v1::LEAF_KIND_EMPTY_DICT:
      return "{}";
    case v1::LEAF_KIND_EMPTY_LIST:
      return "[]";
    case v1::LEAF_KIND_STRING_BYTES:
      return "string";
    case v1::LEAF_KIND_RAW_BYTES:
      return "bytes";
    default:
      return "?";
  }
}

std::string ShapeText(const v1::Leaf& leaf) {
  if (!IsTensorKind(leaf.kind())) return "";
  return absl::StrCat("[", absl::StrJoin(leaf.shape(), ", "), "]");
}

std::string PlacementText(const v1::Leaf& leaf, uint32_t rank) {
  const bool own = leaf.placement() == v1::PLACEMENT_PER_RANK;
  return own ? absl::StrCat("rank ", rank) : PlacementName(leaf);
}

std::string ValueText(const v1::Value& value) {
  const std::string text = ValueToJson(value);
  if (text.size() <= kValueBytesShown) return text;
  size_t shown = 0;  // whole characters
  while (shown < kValueBytesShown) {
    shown += std::max<size_t>(1, Utf8CharacterBytes(absl::string_view(text).substr(shown)));
  }
  return shown >= text.size() ? text : text.substr(0, shown) + "...";
}

Json LeafJson(const v1::Leaf& leaf) {
  Json json;
  json["kind"] =
      absl::AsciiStrToLower(absl::StripPrefix(v1::LeafKind_Name(leaf.kind()), "LEAF_KIND_"));
  if (IsTensorKind(leaf.kind())) {
    json["dtype"] = std::string(DTypeName(leaf.dtype()));
    json["shape"] = std::vector<uint64_t>(leaf.shape().begin(), leaf.shape().end());
  }
  json["placement"] = PlacementName(leaf);
  return json;
}

Json ValueRecord(const v1::Value& value) {
  const std::string text = ValueToJson(value);
  Json parsed = Json::parse(text, nullptr, false);
  return parsed.is_discarded() ? Json(text) : parsed;
}

std::string ValueTypeName(const v1::Value& value) {
  switch (value.kind_case()) {
    case v1::Value::kBoolean:
      return "boolean";
    case v1::Value::kInteger:
      return "integer";
    case v1::Value::kReal:
      return "real";
    case v1::Value::kText:
      return "string";
    case v1::Value::kRaw:
      return "bytes";
    case v1::Value::kNull:
    case v1::Value::KIND_NOT_SET:
      break;
  }
  return "null";
}

std::string TotalText(uint64_t tensors, uint64_t others, uint64_t bytes) {
  return absl::StrCat(Counted(tensors, "tensor"),
                      others > 0 ? absl::StrCat(" and ", Counted(others, "value")) : "", ", ",
                      PrintByteSize(bytes));
}

}  // namespace ckpt::cli
