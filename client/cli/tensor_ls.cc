// ckptctl tensor ls RUN@STEP
#include <cstdio>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/checkpoint_record.h"
#include "client/cli/dry_run.h"
#include "client/cli/leaf_record.h"
#include "client/cli/selection_flags.h"
#include "client/cli/tensor_slice.h"
#include "client/cli/verb.h"
#include "common/byte_size.h"
#include "common/checkpoint_id.h"
#include "common/collected_errors.h"
#include "common/key.h"
#include "common/layout.h"
#include "common/limits.h"
#include "common/quoted.h"
#include "common/status_macros.h"

namespace ckpt::cli {
namespace {

using Slices = std::map<std::string, TensorSlice>;  // by printed key

absl::StatusOr<Slices> SlicesOf(const Arguments& arguments) {
  CKPT_ASSIGN_OR_RETURN(std::vector<TensorSlice> parsed,
                        ParseTensorSlices(arguments.All("slice")));
  Slices slices;
  for (TensorSlice& slice : parsed) slices.emplace(slice.key, std::move(slice));
  return slices;
}

// What --slice asks for of a tensor; whole where it doesn't.
absl::StatusOr<Box> BoxOf(const v1::Leaf& leaf, const std::string& key, const Slices& slices) {
  const absl::Span<const uint64_t> shape(leaf.shape().data(),
                                         static_cast<size_t>(leaf.shape_size()));
  const auto slice = slices.find(key);
  if (slice == slices.end()) return Box::Whole(shape);
  if (!IsTensorKind(leaf.kind())) {
    return absl::InvalidArgumentError(absl::StrCat("--slice: ", Quoted(key), " is not a tensor"));
  }
  return BoxOf(slice->second, shape);
}

// Bytes of what is listed; none of an alias, as another tensor has them.
uint64_t AddTensorRow(RecordPrinter& printer, const v1::TensorInfo& tensor, const Slices& slices,
                      const Box& box) {
  const v1::Leaf& leaf = tensor.leaf();
  const std::string key = PrintKey(leaf.key());
  const bool tensor_like = IsTensorKind(leaf.kind());
  const bool sliced = slices.contains(key);
  const bool is_alias = tensor.has_alias_of();
  const uint64_t bytes = sliced ? box.volume() * DTypeBytes(leaf.dtype()) : tensor.data_bytes();
  Json json;
  json["key"] = key;
  json.update(LeafJson(leaf));
  if (tensor_like) {
    json["data_bytes"] = tensor.data_bytes();
    if (sliced) {
      json["slice"] = {{"offset", box.offset}, {"extent", box.extent}};
      json["slice_bytes"] = bytes;
    }
    json["shard_count"] = tensor.shard_count();
    json["is_alias"] = is_alias;
    if (is_alias) json["alias_of"] = tensor.alias_of();
  }
  if (leaf.placement() == v1::PLACEMENT_PER_RANK) json["rank"] = tensor.rank();
  const bool is_value = leaf.kind() == v1::LEAF_KIND_VALUE;
  if (is_value) {
    json["value_type"] = ValueTypeName(tensor.value());
    json["value"] = ValueRecord(tensor.value());
  }
  printer.Add(json,
              {sliced ? absl::StrCat(key, box.ToString()) : key, TypeText(leaf), ShapeText(leaf),
               PlacementText(leaf, tensor.rank()), tensor_like ? PrintByteSize(bytes) : "-",
               is_alias      ? "alias"
               : tensor_like ? absl::StrCat(tensor.shard_count())
                             : "-",
               is_alias   ? absl::StrCat("= ", tensor.alias_of())
               : is_value ? ValueText(tensor.value())
                          : ""});
  return is_alias ? 0 : bytes;
}

absl::StatusOr<ExitCode> ListTensors(VerbContext& context) {
  v1::ListTensorsRequest request;
  CKPT_ASSIGN_OR_RETURN(*request.mutable_selector(),
                        ParseSelector(context.arguments.positionals()[0]));
  CKPT_ASSIGN_OR_RETURN(*request.mutable_selection(), SelectionOf(context.arguments));
  if (context.arguments.Has("summary")) {
    CKPT_ASSIGN_OR_RETURN(const v1::Selection selection,
                          SlicedSelectionOf(context, request.selector()));
    CKPT_RETURN_IF_ERROR(DryRun(context, request.selector(), selection));
    return kExitOk;
  }
  CKPT_ASSIGN_OR_RETURN(const Slices slices, SlicesOf(context.arguments));
  request.set_page_size(kPageItemsMax);
  RecordPrinter printer(
      context.format,
      {{"KEY"}, {"TYPE"}, {"SHAPE"}, {"PLACEMENT"}, {"DATA", true}, {"SHARDS", true}, {"VALUE"}});
  uint64_t tensors = 0;
  uint64_t others = 0;
  uint64_t bytes = 0;
  CollectedErrors wrong;  // boxes that do not fit: nothing is listed from there on
  do {
    v1::ListTensorsResponse response;
    CKPT_RETURN_IF_ERROR(context.connection.Call([&](grpc::ClientContext* call) {
      return context.connection.catalog().ListTensors(call, request, &response);
    }));
    for (const v1::TensorInfo& tensor : response.tensors()) {
      const v1::Leaf& leaf = tensor.leaf();
      const absl::StatusOr<Box> box = BoxOf(leaf, PrintKey(leaf.key()), slices);
      wrong.Add(box.status());
      if (!wrong.empty()) continue;
      bytes += AddTensorRow(printer, tensor, slices, *box);
      ++(IsTensorKind(leaf.kind()) ? tensors : others);
    }
    // It names the checkpoint, too: later pages are of the one that the first page was of.
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  CKPT_RETURN_IF_ERROR(wrong.ToStatus());
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
                          {SliceFlag(),
                           {.name = "summary",
                            .help = "no list: how many, how large, and in which tier"}}),
                      .details = kSelectionHelp},
          .run = ListTensors};
}

}  // namespace ckpt::cli
