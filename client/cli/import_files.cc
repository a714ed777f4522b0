#include "client/cli/import_files.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <memory>
#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/input_file.h"
#include "client/cli/output_file.h"
#include "client/cli/torch_file/torch_reader.h"
#include "common/byte_size.h"
#include "common/collected_errors.h"
#include "common/key.h"
#include "common/quoted.h"
#include "common/safetensors.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"

namespace ckpt::cli {
namespace {

// What the common libraries call them, in the order in which they look.
constexpr const char* kNamesInFolder[] = {"model.safetensors.index.json", "model.safetensors",
                                          "pytorch_model.bin.index.json", "pytorch_model.bin"};
constexpr uint64_t kIndexBytesMax = 256 << 20;

absl::Status InFile(const std::string& path, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
}

absl::StatusOr<std::vector<ImportLeaf>> ReadSafetensors(
    const std::shared_ptr<const InputFile>& file, std::map<std::string, std::string>& metadata) {
  std::string region(std::min<uint64_t>(file->size(), kLengthPrefixBytes), '\0');
  CKPT_RETURN_IF_ERROR(file->Read(0, region.size(), region.data()));
  const absl::StatusOr<uint64_t> region_bytes = SafetensorsRegionBytes(region, file->size());
  if (!region_bytes.ok()) return InFile(file->path(), region_bytes.status());
  region.resize(*region_bytes);
  CKPT_RETURN_IF_ERROR(file->Read(0, region.size(), region.data()));
  absl::StatusOr<SafetensorsHeader> header = ParseSafetensorsHeader(region, file->size());
  if (!header.ok()) return InFile(file->path(), header.status());
  metadata.insert(header->metadata.begin(), header->metadata.end());
  std::vector<ImportLeaf> leaves;
  for (const SafetensorsTensor& tensor : header->tensors) {
    ImportLeaf leaf;
    leaf.key = MakeKey({tensor.name});  // a flat name, whatever dots are in it
    leaf.dtype = tensor.dtype;
    leaf.shape = tensor.shape;
    leaf.read = [file, start = *region_bytes + tensor.begin](uint64_t begin, uint64_t bytes,
                                                             void* out) {
      return file->Read(start + begin, bytes, out);
    };
    leaves.push_back(std::move(leaf));
  }
  return leaves;
}

absl::StatusOr<std::vector<ImportLeaf>> ReadFile(const std::string& path,
                                                 std::map<std::string, std::string>& metadata) {
  CKPT_ASSIGN_OR_RETURN(const std::shared_ptr<const InputFile> file, InputFile::Open(path));
  std::string first(std::min<uint64_t>(file->size(), kTorchFormatBytes), '\0');
  CKPT_RETURN_IF_ERROR(file->Read(0, first.size(), first.data()));
  if (RecognizeTorchFormat(first) != TorchFormat::kNone) return ReadTorchFile(file);
  return ReadSafetensors(file, metadata);
}

// The name at the top -> the file that it came from.
using TopNames = std::map<std::string, std::string>;

absl::Status AddFile(const std::string& path, TopNames& names, ImportSet& set) {
  CKPT_ASSIGN_OR_RETURN(std::vector<ImportLeaf> leaves, ReadFile(path, set.metadata));
  const size_t first = set.leaves.size();
  TopNames own;
  for (ImportLeaf& leaf : leaves) {
    v1::Key top;
    *top.add_segments() = leaf.key.segments(0);
    const auto name = own.emplace(PrintKey(top), path).first;
    if (const auto other = names.find(name->first); other != names.end()) {
      return absl::InvalidArgumentError(absl::StrCat("two files have ", Quoted(name->first), ": ",
                                                     other->second, " and ", path));
    }
    if (leaf.alias_of) {
      *leaf.alias_of += first;
    } else {
      set.data_bytes += Volume(leaf.shape).value_or(0) * DTypeBytes(leaf.dtype);
    }
    set.tensor_count += leaf.kind == v1::LEAF_KIND_TENSOR;
    set.leaves.push_back(std::move(leaf));
  }
  names.merge(own);
  return absl::OkStatus();
}

// name of a tensor -> name of its file, from an index that anybody may have written.
absl::StatusOr<std::map<std::string, std::string>> ReadIndex(const std::string& path) {
  CKPT_ASSIGN_OR_RETURN(const std::shared_ptr<const InputFile> file, InputFile::Open(path));
  if (file->size() > kIndexBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": an index of ", PrintByteSize(file->size()), " is none"));
  }
  std::string text(file->size(), '\0');
  CKPT_RETURN_IF_ERROR(file->Read(0, text.size(), text.data()));
  const nlohmann::json index = nlohmann::json::parse(text, nullptr, false);
  if (index.is_discarded() || !index.is_object() || !index.contains("weight_map") ||
      !index["weight_map"].is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": not an index: expected a JSON object with an object `weight_map`"));
  }
  std::map<std::string, std::string> map;
  for (const auto& [tensor, file] : index["weight_map"].items()) {
    if (!file.is_string()) {
      return absl::InvalidArgumentError(absl::StrCat(
          path, ": weight_map of \"", absl::Utf8SafeCEscape(tensor), "\" is not a file's name"));
    }
    const auto name = file.get<std::string>();
    if (name.empty() || name == "." || name == ".." || absl::StrContains(name, '/') ||
        name.find('\0') != std::string::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": the file \"", absl::CEscape(name),
                       "\" must be a plain name in the index's own folder"));
    }
    map[tensor] = name;
  }
  return map;
}

absl::Status AddIndex(const std::string& path, TopNames& names, ImportSet& set) {
  CKPT_ASSIGN_OR_RETURN(const auto map, ReadIndex(path));
  std::set<std::string> files;
  for (const auto& [tensor, file] : map) files.insert(file);
  std::map<std::string, std::string> found;
  CollectedErrors errors;
  for (const std::string& file : files) {
    const size_t first = set.leaves.size();
    const absl::Status added = AddFile(absl::StrCat(FolderOf(path), "/", file), names, set);
    errors.Add(!absl::IsNotFound(added)
                   ? added
                   : absl::NotFoundError(
                         absl::StrCat(path, " names ", Quoted(file), ", which is not there")));
    for (size_t i = first; i < set.leaves.size(); ++i) {
      found[PrintKey(set.leaves[i].key)] = file;
    }
  }
  CKPT_RETURN_IF_ERROR(errors.ToStatus());
  for (const auto& [tensor, file] : map) {
    const auto where = found.find(tensor);
    if (where == found.end() || where->second != file) {
      errors.Add(absl::InvalidArgumentError(
          absl::StrCat(path, ": \"", absl::Utf8SafeCEscape(tensor), "\" should be in ",
                       absl::CEscape(file), ", but is not")));
    }
  }
  for (const auto& [tensor, file] : found) {
    if (!map.contains(tensor)) {
      errors.Add(absl::InvalidArgumentError(
          absl::StrCat(path, ": ", absl::CEscape(file), " has a tensor \"",
                       absl::Utf8SafeCEscape(tensor), "\" that the index doesn't name")));
    }
  }
  return errors.ToStatus();
}

absl::Status AddPath(const std::string& path, TopNames& names, ImportSet& set) {
  std::error_code error;
  std::string file = path;
  if (std::filesystem::is_directory(path, error)) {
    const auto* name = std::find_if(std::begin(kNamesInFolder), std::end(kNamesInFolder),
                                    [&](const char* candidate) {
                                      return std::filesystem::exists(
                                          absl::StrCat(path, "/", candidate), error);
                                    });
    if (name == std::end(kNamesInFolder)) {
      return absl::NotFoundError(absl::StrCat("the folder ", path, " has none of ",
                                              absl::StrJoin(kNamesInFolder, ", "),
                                              ": name the files themselves"));
    }
    file = absl::StrCat(path, "/", *name);
  }
  return absl::EndsWith(file, ".json") ? AddIndex(file, names, set) : AddFile(file, names, set);
}

}  // namespace

absl::StatusOr<ImportSet> OpenImportSet(absl::Span<const std::string> paths) {
  ImportSet set;
  TopNames names;
  CollectedErrors errors;
  for (const std::string& path : paths) errors.Add(AddPath(path, names, set));
  CKPT_RETURN_IF_ERROR(errors.ToStatus());
  return set;
}

}  // namespace ckpt::cli
