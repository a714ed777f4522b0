#include "client/cli/selection_flags.h"

#include <map>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/cli/checkpoint_record.h"
#include "client/cli/tensor_slice.h"
#include "common/byte_size.h"
#include "common/collected_errors.h"
#include "common/dtype.h"
#include "common/filter.h"
#include "common/key.h"
#include "common/glob.h"
#include "common/layout.h"
#include "common/limits.h"
#include "common/quoted.h"
#include "common/status_macros.h"

namespace ckpt::cli {
namespace {

absl::StatusOr<DType> DTypeOf(absl::string_view flag, absl::string_view text) {
  std::vector<std::string> names;
  for (int number = v1::DType_MIN; number <= v1::DType_MAX; ++number) {
    const auto dtype = static_cast<DType>(number);
    if (DTypeBytes(dtype) == 0) continue;
    names.emplace_back(DTypeName(dtype));
    if (names.back() == absl::AsciiStrToUpper(text)) return dtype;
  }
  return absl::InvalidArgumentError(absl::StrCat("--", flag, " must be of ",
                                                 absl::StrJoin(names, ", "), ", not \"",
                                                 absl::Utf8SafeCEscape(text), "\""));
}

absl::StatusOr<uint64_t> SizeOf(const Arguments& arguments, absl::string_view flag) {
  const absl::StatusOr<uint64_t> bytes = ParseByteSize(arguments.Get(flag));
  if (bytes.ok()) return *bytes;
  return absl::InvalidArgumentError(absl::StrCat("--", flag, ": ", bytes.status().message()));
}

// Values of a flag that may be repeated and may hold several, with commas between them. Empty ones
// too, to be refused: a script's unset variable must not select everything.
std::vector<std::string> ListOf(const Arguments& arguments, absl::string_view flag) {
  if (!arguments.Has(flag)) return {};
  return absl::StrSplit(absl::StrJoin(arguments.All(flag), ","), ',');
}

void AddDTypes(const Arguments& arguments, absl::string_view flag, v1::LeafMatch& match,
               CollectedErrors& errors) {
  for (const std::string& name : ListOf(arguments, flag)) {
    const absl::StatusOr<DType> dtype = DTypeOf(flag, name);
    errors.Add(dtype.status());
    if (dtype.ok()) match.add_dtypes(*dtype);
  }
}

void AddRanks(const Arguments& arguments, absl::string_view flag, v1::LeafMatch& match,
              CollectedErrors& errors) {
  for (const std::string& text : ListOf(arguments, flag)) {
    uint32_t rank = 0;
    if (absl::SimpleAtoi(text, &rank)) {
      match.add_ranks(rank);
    } else {
      errors.Add(absl::InvalidArgumentError(absl::StrCat(
          "--", flag, " must be a whole number, not \"", absl::Utf8SafeCEscape(text), "\"")));
    }
  }
}

// What all selected leaves must meet: nothing is set where no such flag is given.
v1::LeafMatch Restriction(const Arguments& arguments, CollectedErrors& errors) {
  v1::LeafMatch match;
  AddDTypes(arguments, "dtype", match, errors);
  if (arguments.Has("min-size")) {
    const absl::StatusOr<uint64_t> bytes = SizeOf(arguments, "min-size");
    errors.Add(bytes.status());
    if (bytes.ok()) match.set_min_bytes(*bytes);
  }
  if (arguments.Has("max-size")) {
    const absl::StatusOr<uint64_t> bytes = SizeOf(arguments, "max-size");
    errors.Add(bytes.status());
    if (bytes.ok()) match.set_max_bytes(*bytes);
  }
  AddRanks(arguments, "rank", match, errors);
  return match;
}

void AddExcludes(const Arguments& arguments, v1::Selection& selection, CollectedErrors& errors) {
  for (const std::string& glob : arguments.All("exclude")) selection.add_exclude(glob);
  for (const std::string& regex : arguments.All("exclude-regex")) {
    selection.add_exclude_matching()->set_regex(regex);
  }
  for (const std::string& top_level : arguments.All("exclude-top-level")) {
    selection.add_exclude_matching()->set_top_level(top_level);
  }
  v1::LeafMatch dtypes, ranks;
  AddDTypes(arguments, "exclude-dtype", dtypes, errors);
  if (dtypes.dtypes_size() > 0) *selection.add_exclude_matching() = dtypes;
  AddRanks(arguments, "exclude-rank", ranks, errors);
  if (ranks.ranks_size() > 0) *selection.add_exclude_matching() = ranks;
}

// --key, and the keys of --slice.
std::vector<std::string> NamedKeys(const Arguments& arguments, CollectedErrors& errors) {
  std::vector<std::string> keys = arguments.All("key");
  absl::StatusOr<std::vector<TensorSlice>> slices = ParseTensorSlices(arguments.All("slice"));
  errors.Add(slices.status());
  if (!slices.ok()) return keys;
  for (TensorSlice& slice : *slices) keys.push_back(std::move(slice.key));
  return keys;
}

// A shape of each of these keys.
absl::StatusOr<std::map<std::string, Extents>> ShapesOf(VerbContext& context,
                                                        const v1::Selector& selector,
                                                        const std::vector<std::string>& keys) {
  v1::ListTensorsRequest request;
  *request.mutable_selector() = selector;
  for (const std::string& key : keys) *request.mutable_selection()->add_keys() = MakeKey({key});
  request.set_page_size(kPageItemsMax);
  std::map<std::string, Extents> shapes;
  do {
    v1::ListTensorsResponse response;
    CKPT_RETURN_IF_ERROR(context.connection.Call([&](grpc::ClientContext* call) {
      return context.connection.catalog().ListTensors(call, request, &response);
    }));
    for (const v1::TensorInfo& tensor : response.tensors()) {
      if (!IsTensorKind(tensor.leaf().kind())) continue;
      const auto& shape = tensor.leaf().shape();
      shapes.try_emplace(PrintKey(tensor.leaf().key()), shape.begin(), shape.end());
    }
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  return shapes;
}

}  // namespace

const char kSelectionHelp[] =
    "Selected is what any of --include, --regex and --key names (all, where none is given), if it "
    "meets each\nof --dtype, --min-size, --max-size, --top-level and --rank, and no --exclude... "
    "names it. In a glob *\nmatches any run of characters but '.', ** any run at all, ? one "
    "character, and \\ takes the next one as it\nis; a regex (RE2) may be found anywhere in the "
    "key: anchor it with ^ and $.";

std::vector<FlagSpec> WithSelectionFlags(std::vector<FlagSpec> own) {
  const std::vector<FlagSpec> selection = {
      {.name = "include",
       .value = "GLOB",
       .help = "keys that match (may be repeated)",
       .letter = 'i',
       .repeated = true},
      {.name = "exclude",
       .value = "GLOB",
       .help = "not the keys that match (may be repeated)",
       .letter = 'x',
       .repeated = true},
      {.name = "regex",
       .value = "REGEX",
       .help = "keys in which it is found (may be repeated)",
       .repeated = true},
      {.name = "exclude-regex",
       .value = "REGEX",
       .help = "not the keys in which it is found (may be repeated)",
       .repeated = true},
      {.name = "key",
       .value = "KEY",
       .help = "exactly this key; an error where it is not there (may be repeated)",
       .repeated = true},
      {.name = "dtype",
       .value = "F32,BF16,...",
       .help = "only tensors of these types",
       .repeated = true},
      {.name = "exclude-dtype",
       .value = "F64,...",
       .help = "not the tensors of these types",
       .repeated = true},
      {.name = "min-size", .value = "SIZE", .help = "only tensors of 1MiB, ... or more"},
      {.name = "max-size", .value = "SIZE", .help = "only tensors of 1MiB, ... or less"},
      {.name = "top-level",
       .value = "NAME",
       .help = "only what is in this entry of the state (may be repeated)",
       .repeated = true},
      {.name = "exclude-top-level",
       .value = "NAME",
       .help = "not what is in this entry of the state (may be repeated)",
       .repeated = true},
      {.name = "rank",
       .value = "N,...",
       .help = "of what each rank has of its own, only that of these ranks",
       .repeated = true},
      {.name = "exclude-rank",
       .value = "N,...",
       .help = "not what these ranks have of their own",
       .repeated = true}};
  own.insert(own.end(), selection.begin(), selection.end());
  return own;
}

FlagSpec SliceFlag() {
  return {.name = "slice",
          .value = "'KEY[0:100,:]'",
          .help = "as --key, but only this box of the tensor (may be repeated)",
          .repeated = true};
}

absl::Status NothingSelected(const Arguments& arguments, const v1::CheckpointId& id) {
  std::vector<std::string> given;
  for (const FlagSpec& flag : WithSelectionFlags({SliceFlag()})) {
    if (arguments.Has(flag.name)) given.push_back(absl::StrCat("--", flag.name));
  }
  if (given.empty()) return absl::OkStatus();
  const std::string name = NameOf(id);
  return absl::NotFoundError(absl::StrCat("nothing of ", name, " is left by ",
                                          absl::StrJoin(given, ", "), "; ckptctl tensor ls ", name,
                                          " lists what is there"));
}

absl::StatusOr<v1::Selection> SelectionOf(const Arguments& arguments) {
  v1::Selection selection;
  CollectedErrors errors;
  AddExcludes(arguments, selection, errors);
  const std::vector<std::string> keys = NamedKeys(arguments, errors);
  const v1::LeafMatch restriction = Restriction(arguments, errors);
  for (const std::string& name : arguments.All("top-level")) {
    if (name.empty()) errors.Add(absl::InvalidArgumentError("--top-level must not be empty"));
  }
  // Patterns are the daemon's to refuse, but then it would do so after all else was mended.
  const auto checked = [&]() -> absl::StatusOr<v1::Selection> {
    errors.Add(LeafFilter::FromSelection(selection).status());
    CKPT_RETURN_IF_ERROR(errors.ToStatus());
    return selection;
  };
  std::vector<std::string> top_levels = arguments.All("top-level");
  if (restriction.ByteSizeLong() == 0 && top_levels.empty()) {
    for (const std::string& glob : arguments.All("include")) selection.add_include(glob);
    for (const std::string& regex : arguments.All("regex")) {
      selection.add_include_matching()->set_regex(regex);
    }
    for (const std::string& key : keys) *selection.add_keys() = MakeKey({key});
    return checked();
  }
  // On the wire a restriction is part of each match. A key that is not there is an error all the
  // same.
  for (const std::string& key : keys) *selection.add_must_exist() = MakeKey({key});
  std::vector<v1::LeafMatch> named;
  for (const std::string& glob : arguments.All("include")) named.emplace_back().set_glob(glob);
  for (const std::string& regex : arguments.All("regex")) named.emplace_back().set_regex(regex);
  for (const std::string& key : keys) {
    v1::LeafMatch& match = named.emplace_back();
    key.empty() ? match.set_regex("^$") : match.set_glob(LiteralGlob(key));  // no glob is none
  }
  if (named.empty()) named.emplace_back();
  if (top_levels.empty()) top_levels.emplace_back();
  for (v1::LeafMatch& match : named) {
    match.MergeFrom(restriction);
    for (const std::string& top_level : top_levels) {
      match.set_top_level(top_level);
      *selection.add_include_matching() = match;
    }
  }
  return checked();
}

absl::StatusOr<v1::Selection> SlicedSelectionOf(VerbContext& context,
                                                const v1::Selector& selector) {
  CKPT_ASSIGN_OR_RETURN(v1::Selection selection, SelectionOf(context.arguments));
  CKPT_ASSIGN_OR_RETURN(const std::vector<TensorSlice> slices,
                        ParseTensorSlices(context.arguments.All("slice")));
  std::vector<std::string> keys = context.arguments.All("key");
  for (const TensorSlice& slice : slices) keys.push_back(slice.key);
  if (keys.empty()) return selection;
  CKPT_ASSIGN_OR_RETURN(const auto shapes, ShapesOf(context, selector, keys));
  CollectedErrors errors;
  for (const TensorSlice& slice : slices) {
    const auto shape = shapes.find(slice.key);
    if (shape == shapes.end()) {
      errors.Add(absl::InvalidArgumentError(
          absl::StrCat("--slice: ", Quoted(slice.key), " is not a tensor")));
      continue;
    }
    const absl::StatusOr<Box> box = BoxOf(slice, shape->second);
    errors.Add(box.status());
    if (!box.ok()) continue;
    v1::Selection::Slice* added = selection.add_slices();
    *added->mutable_key() = MakeKey({slice.key});
    box->ToProto(added->mutable_box());
  }
  CKPT_RETURN_IF_ERROR(errors.ToStatus());
  return selection;
}

}  // namespace ckpt::cli
