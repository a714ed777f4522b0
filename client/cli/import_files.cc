#include "client/cli/import_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/cli/output_file.h"
#include "common/byte_size.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"

namespace ckpt::cli {
namespace {

constexpr char kImportIndexName[] = "model.safetensors.index.json";
constexpr char kSingleName[] = "model.safetensors";
constexpr uint64_t kIndexBytesMax = 256 << 20;

absl::Status ReadAll(int descriptor, const std::string& path, uint64_t offset, uint64_t bytes,
                     void* out) {
  auto* to = static_cast<char*>(out);
  while (bytes > 0) {
    const ssize_t got = pread(descriptor, to, bytes, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return absl::ErrnoToStatus(errno, absl::StrCat("reading ", path));
    if (got == 0) {
      return absl::DataLossError(absl::StrCat(path, " has become shorter while it was read"));
    }
    to += got;
    offset += static_cast<uint64_t>(got);
    bytes -= static_cast<uint64_t>(got);
  }
  return absl::OkStatus();
}

// Opens a regular file and tells its length. O_NONBLOCK: a pipe must not hang us before it is
// refused.
absl::StatusOr<int> OpenRegular(const std::string& path, uint64_t& length) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return absl::ErrnoToStatus(errno, absl::StrCat("opening ", path));
  struct stat status {};
  if (fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(descriptor);
    return absl::InvalidArgumentError(absl::StrCat(path, " is not a regular file"));
  }
  length = static_cast<uint64_t>(status.st_size);
  return descriptor;
}

absl::Status InFile(const std::string& path, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
}

absl::Status AddFile(const std::shared_ptr<const ImportFile>& file, std::set<std::string>& names,
                     ImportSet& set) {
  for (const SafetensorsTensor& tensor : file->header().tensors) {
    if (!names.insert(tensor.name).second) {
      return absl::InvalidArgumentError(absl::StrCat("two files have a tensor \"",
                                                     absl::Utf8SafeCEscape(tensor.name),
                                                     "\"; the second is ", file->path()));
    }
    set.tensors.push_back({file, tensor});
    set.data_bytes += tensor.end - tensor.begin;
  }
  set.metadata.insert(file->header().metadata.begin(), file->header().metadata.end());
  return absl::OkStatus();
}

// name of a tensor -> name of its file, from an index that anybody may have written.
absl::StatusOr<std::map<std::string, std::string>> ReadIndex(const std::string& path) {
  uint64_t length = 0;
  CKPT_ASSIGN_OR_RETURN(const int descriptor, OpenRegular(path, length));
  if (length > kIndexBytesMax) {
    close(descriptor);
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": an index of ", PrintByteSize(length), " is none"));
  }
  std::string text(length, '\0');
  const absl::Status read = ReadAll(descriptor, path, 0, length, text.data());
  close(descriptor);
  CKPT_RETURN_IF_ERROR(read);
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

absl::Status AddIndex(const std::string& path, std::set<std::string>& names, ImportSet& set) {
  CKPT_ASSIGN_OR_RETURN(const auto map, ReadIndex(path));
  std::set<std::string> files;
  for (const auto& [tensor, file] : map) files.insert(file);
  std::map<std::string, std::string> found;
  for (const std::string& file : files) {
    CKPT_ASSIGN_OR_RETURN(const auto opened,
                          ImportFile::Open(absl::StrCat(FolderOf(path), "/", file)));
    for (const SafetensorsTensor& tensor : opened->header().tensors) found[tensor.name] = file;
    CKPT_RETURN_IF_ERROR(AddFile(opened, names, set));
  }
  for (const auto& [tensor, file] : map) {
    const auto where = found.find(tensor);
    if (where == found.end() || where->second != file) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": \"", absl::Utf8SafeCEscape(tensor),
                                                     "\" should be in ", absl::CEscape(file),
                                                     ", but is not"));
    }
  }
  for (const auto& [tensor, file] : found) {
    if (!map.contains(tensor)) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": ", absl::CEscape(file), " has a tensor \"",
                       absl::Utf8SafeCEscape(tensor), "\" that the index doesn't name"));
    }
  }
  return absl::OkStatus();
}

absl::Status AddPath(const std::string& path, std::set<std::string>& names, ImportSet& set) {
  std::error_code error;
  std::string file = path;
  if (std::filesystem::is_directory(path, error)) {
    file = absl::StrCat(path, "/", kImportIndexName);
    if (!std::filesystem::exists(file, error)) file = absl::StrCat(path, "/", kSingleName);
    if (!std::filesystem::exists(file, error)) {
      return absl::NotFoundError(absl::StrCat("the folder ", path, " has neither ",
                                              kImportIndexName, " nor ", kSingleName,
                                              ": name the files themselves"));
    }
  }
  if (absl::EndsWith(file, ".json")) return AddIndex(file, names, set);
  CKPT_ASSIGN_OR_RETURN(const auto opened, ImportFile::Open(file));
  return AddFile(opened, names, set);
}

}  // namespace

absl::StatusOr<std::shared_ptr<const ImportFile>> ImportFile::Open(const std::string& path) {
  uint64_t length = 0;
  CKPT_ASSIGN_OR_RETURN(const int descriptor, OpenRegular(path, length));
  const std::shared_ptr<ImportFile> file(new ImportFile(path, descriptor));
  std::string region(std::min<uint64_t>(length, 8), '\0');
  CKPT_RETURN_IF_ERROR(ReadAll(descriptor, path, 0, region.size(), region.data()));
  const absl::StatusOr<uint64_t> region_bytes = SafetensorsRegionBytes(region, length);
  if (!region_bytes.ok()) return InFile(path, region_bytes.status());
  region.resize(*region_bytes);
  CKPT_RETURN_IF_ERROR(ReadAll(descriptor, path, 0, region.size(), region.data()));
  absl::StatusOr<SafetensorsHeader> header = ParseSafetensorsHeader(region, length);
  if (!header.ok()) return InFile(path, header.status());
  file->header_ = *std::move(header);
  return std::shared_ptr<const ImportFile>(file);
}

ImportFile::~ImportFile() { close(descriptor_); }

absl::Status ImportFile::Read(uint64_t offset, uint64_t bytes, void* out) const {
  return ReadAll(descriptor_, path_, header_.header_region_bytes + offset, bytes, out);
}

absl::StatusOr<ImportSet> OpenImportSet(absl::Span<const std::string> paths) {
  ImportSet set;
  std::set<std::string> names;
  for (const std::string& path : paths) CKPT_RETURN_IF_ERROR(AddPath(path, names, set));
  return set;
}

}  // namespace ckpt::cli
