// Files that somebody else made, opened and checked as a whole before anything is saved: what
// torch.save wrote, and safetensors. Every field of theirs is untrusted; names in an index never
// leave the index's folder.
#ifndef CKPT_CLIENT_CLI_IMPORT_FILES_H_
#define CKPT_CLIENT_CLI_IMPORT_FILES_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "client/cli/import_leaf.h"

namespace ckpt::cli {

struct ImportSet {
  std::vector<ImportLeaf> leaves;
  std::map<std::string, std::string> metadata;  // of all files; the first that has a name wins
  uint64_t tensor_count = 0;
  uint64_t data_bytes = 0;  // of tensors, those that are aliases aside
};

// Each path is a file, recognized by its content, an index (*.json), or a folder that holds one of
// model.safetensors.index.json, model.safetensors, pytorch_model.bin.index.json, pytorch_model.bin,
// sought in this order. INVALID_ARGUMENT: as ParseSafetensorsHeader and ReadTorchFile, with the
// path; a name at the top that two files have; an index that disagrees with its files. NOT_FOUND:
// a file, or one that an index names; PERMISSION_DENIED.
absl::StatusOr<ImportSet> OpenImportSet(absl::Span<const std::string> paths);

}  // namespace ckpt::cli

#endif  // CKPT_CLIENT_CLI_IMPORT_FILES_H_
