// ckptctl tensor ls RUN@STEP
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "client/cli/checkpoint_record.h"
#include "client/cli/dry_run.h"
#include "client/cli/leaf_record.h"
#include "client/cli/selection_flags.h"
#include "client/cli/verb.h"
#include "common/byte_size.h"
#include "common/checkpoint_id.h"
#include "common/key.h"
#include "common/layout.h"
#include "common/limits.h"
#include "common/status_macros.h"

namespace ckpt::cli {
namespace {

void AddTensorRow(RecordPrinter& printer, const v1::TensorInfo& tensor) {
  const v1::Leaf& leaf = tensor.leaf();
  const std::string key = PrintKey(leaf.key());
  const bool tensor_like = IsTensorKind(leaf.kind());
  Json json;
  json["key"] = key;
  json.update(LeafJson(leaf));
  if (tensor_like) {
    json["data_bytes"] = tensor.data_bytes();
    json["shard_count"] = tensor.shard_count();
    json["is_alias"] = leaf.alias_of_plus_one() != 0;
  }
  if (leaf.placement() == v1::PLACEMENT_PER_RANK) json["rank"] = tensor.rank();
  const bool is_value = leaf.kind() == v1::LEAF_KIND_VALUE;
  if (is_value) json["value"] = ValueRecord(tensor.value());
  printer.Add(json, {key, TypeText(leaf), ShapeText(leaf), PlacementText(leaf, tensor.rank()),
                     tensor_like ? PrintByteSize(tensor.data_bytes()) : "-",
                     tensor_like ? absl::StrCat(tensor.shard_count()) : "-",
                     is_value ? ValueText(tensor.value()) : ""});
}

absl::StatusOr<ExitCode> ListTensors(VerbContext& context) {
  v1::ListTensorsRequest request;
  CKPT_ASSIGN_OR_RETURN(*request.mutable_selector(),
                        ParseSelector(context.arguments.positionals()[0]));
  CKPT_ASSIGN_OR_RETURN(*request.mutable_selection(), SelectionOf(context.arguments));
  if (context.arguments.Has("summary")) {
    CKPT_RETURN_IF_ERROR(DryRun(context, request.selector(), request.selection()));
    return kExitOk;
  }
  request.set_page_size(kPageItemsMax);
  RecordPrinter printer(
      context.format,
      {{"KEY"}, {"TYPE"}, {"SHAPE"}, {"PLACEMENT"}, {"DATA", true}, {"SHARDS", true}, {"VALUE"}});
  uint64_t tensors = 0;
  uint64_t others = 0;
  uint64_t bytes = 0;
  do {
    v1::ListTensorsResponse response;
    CKPT_RETURN_IF_ERROR(context.connection.Call([&](grpc::ClientContext* call) {
      return context.connection.catalog().ListTensors(call, request, &response);
    }));
    for (const v1::TensorInfo& tensor : response.tensors()) {
      AddTensorRow(printer, tensor);
      ++(IsTensorKind(tensor.leaf().kind()) ? tensors : others);
      bytes += tensor.data_bytes();
    }
    // Later pages are of the very checkpoint that the first one came from.
    if (response.has_id()) *request.mutable_selector() = ExactSelector(response.id());
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  printer.Finish("nothing matches");
  if (context.format == OutputFormat::kTable && tensors + others > 0) {
    std::puts(TotalText(tensors, others, bytes).c_str());
  }
  return kExitOk;
}

}  // namespace

Verb TensorLs() {
  return {.command = {.name = "tensor ls",
                      .summary = "List the tensors and values of a checkpoint, by key",
                      .positionals = {{.name = "RUN@STEP",
                                       .help = "or RUN@latest, RUN@latest-valid, RUN@TAG"}},
                      .flags = WithSelectionFlags(
                          {{.name = "summary",
                            .help = "no list: how many, how large, and in which tier"}}),
                      .details = kSelectionHelp},
          .run = ListTensors};
}

}  // namespace ckpt::cli
