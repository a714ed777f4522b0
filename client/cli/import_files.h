// safetensors files that somebody else made, opened and checked as a whole before anything is
// saved. Every field of theirs is untrusted; names in an index never leave the index's folder.
#ifndef CKPT_CLIENT_CLI_IMPORT_FILES_H_
#define CKPT_CLIENT_CLI_IMPORT_FILES_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/safetensors.h"

namespace ckpt::cli {

class ImportFile {
 public:
  // NOT_FOUND, PERMISSION_DENIED; INVALID_ARGUMENT as ParseSafetensorsHeader, with the path.
  static absl::StatusOr<std::shared_ptr<const ImportFile>> Open(const std::string& path);
  ImportFile(const ImportFile&) = delete;
  ImportFile& operator=(const ImportFile&) = delete;
  ~ImportFile();

  const std::string& path() const { return path_; }
  const SafetensorsHeader& header() const { return header_; }
  // Bytes of the data region. Thread-safe. DATA_LOSS where the file has become shorter since it was
  // opened.
  absl::Status Read(uint64_t offset, uint64_t bytes, void* out) const;

 private:
  ImportFile(std::string path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}
  const std::string path_;
  const int descriptor_;
  SafetensorsHeader header_;
};

struct ImportTensor {
  std::shared_ptr<const ImportFile> file;
  SafetensorsTensor tensor;
};

struct ImportSet {
  std::vector<ImportTensor> tensors;
  std::map<std::string, std::string> metadata;  // of all files; the first that has a name wins
  uint64_t data_bytes = 0;
};

// Each path is a safetensors file, an index (*.json), or a folder that holds
// model.safetensors.index.json or model.safetensors. INVALID_ARGUMENT: a tensor that two files
// have, an index that disagrees with its files.
absl::StatusOr<ImportSet> OpenImportSet(absl::Span<const std::string> paths);

}  // namespace ckpt::cli

#endif  // CKPT_CLIENT_CLI_IMPORT_FILES_H_
