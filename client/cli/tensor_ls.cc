// ckptctl tensor ls RUN@STEP
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "client/cli/checkpoint_record.h"
#include "client/cli/verb.h"
#include "common/byte_size.h"
#include "common/checkpoint_id.h"
#include "common/dtype.h"
#include "common/key.h"
#include "common/layout.h"
#include "common/limits.h"
#include "common/safetensors.h"
#include "common/status_macros.h"

namespace ckpt::cli {
namespace {

std::string KindText(const v1::Leaf& leaf) {
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

std::string PlacementText(const v1::Leaf& leaf, uint32_t rank) {
  const std::string name =
      absl::AsciiStrToLower(absl::StripPrefix(v1::Placement_Name(leaf.placement()), "PLACEMENT_"));
  return leaf.placement() == v1::PLACEMENT_PER_RANK ? absl::StrCat("rank ", rank) : name;
}

void AddTensorRow(RecordPrinter& printer, const v1::TensorInfo& tensor) {
  const v1::Leaf& leaf = tensor.leaf();
  const std::string key = PrintKey(leaf.key());
  const bool is_value = leaf.kind() == v1::LEAF_KIND_VALUE;
  Json json;
  json["key"] = key;
  json["kind"] =
      absl::AsciiStrToLower(absl::StripPrefix(v1::LeafKind_Name(leaf.kind()), "LEAF_KIND_"));
  if (IsTensorKind(leaf.kind())) {
    json["dtype"] = std::string(DTypeName(leaf.dtype()));
    json["shape"] = std::vector<uint64_t>(leaf.shape().begin(), leaf.shape().end());
    json["data_bytes"] = tensor.data_bytes();
    json["shard_count"] = tensor.shard_count();
    json["is_alias"] = leaf.alias_of_plus_one() != 0;
  }
  json["placement"] =
      absl::AsciiStrToLower(absl::StripPrefix(v1::Placement_Name(leaf.placement()), "PLACEMENT_"));
  if (leaf.placement() == v1::PLACEMENT_PER_RANK) json["rank"] = tensor.rank();
  const std::string value = is_value ? ValueToJson(tensor.value()) : "";
  if (is_value) {
    const Json parsed = Json::parse(value, nullptr, false);
    json["value"] = parsed.is_discarded() ? Json(value) : parsed;
  }
  const bool tensor_like = IsTensorKind(leaf.kind());
  const size_t shown_bytes_max = 60;
  printer.Add(
      json,
      {key, KindText(leaf), tensor_like ? ShapeText(leaf) : "", PlacementText(leaf, tensor.rank()),
       tensor_like ? PrintByteSize(tensor.data_bytes()) : "-",
       tensor_like ? absl::StrCat(tensor.shard_count()) : "-",
       value.size() > shown_bytes_max ? value.substr(0, shown_bytes_max) + "..." : value});
}

absl::StatusOr<ExitCode> ListTensors(VerbContext& context) {
  v1::ListTensorsRequest request;
  CKPT_ASSIGN_OR_RETURN(*request.mutable_selector(),
                        ParseSelector(context.arguments.positionals()[0]));
  for (const std::string& glob : context.arguments.All("include")) {
    request.mutable_selection()->add_include(glob);
  }
  for (const std::string& glob : context.arguments.All("exclude")) {
    request.mutable_selection()->add_exclude(glob);
  }
  request.set_page_size(kPageItemsMax);
  RecordPrinter printer(
      context.format,
      {{"KEY"}, {"TYPE"}, {"SHAPE"}, {"PLACEMENT"}, {"DATA", true}, {"SHARDS", true}, {"VALUE"}});
  do {
    v1::ListTensorsResponse response;
    CKPT_RETURN_IF_ERROR(context.connection.Call([&](grpc::ClientContext* call) {
      return context.connection.catalog().ListTensors(call, request, &response);
    }));
    for (const v1::TensorInfo& tensor : response.tensors()) AddTensorRow(printer, tensor);
    // Later pages are of the very checkpoint that the first one came from.
    if (response.has_id()) *request.mutable_selector() = ExactSelector(response.id());
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  printer.Finish("nothing matches");
  return kExitOk;
}

}  // namespace

Verb TensorLs() {
  return {.command = {.name = "tensor ls",
                      .summary = "List the tensors and values of a checkpoint, by key",
                      .positionals = {{.name = "RUN@STEP",
                                       .help = "or RUN@latest, RUN@latest-valid, RUN@TAG"}},
                      .flags = {{.name = "include",
                                 .value = "GLOB",
                                 .help = "only keys that match (may be repeated)",
                                 .letter = 'i',
                                 .repeated = true},
                                {.name = "exclude",
                                 .value = "GLOB",
                                 .help = "not the keys that match (may be repeated)",
                                 .letter = 'x',
                                 .repeated = true}},
                      .details = "In a glob * matches any run of characters but '.', ** any run at "
                                 "all, ? one character."},
          .run = ListTensors};
}

}  // namespace ckpt::cli
