// A file that appears whole or not at all: written under a temporary name beside its final one,
// synced, renamed, and the folder synced; a signal that ends the process removes the temporary one.
// Never replaces a file that exists unless told to, and never what is no regular file (a FIFO, a
// device, a symbolic link). One thread.
#ifndef CKPT_CLIENT_CLI_OUTPUT_FILE_H_
#define CKPT_CLIENT_CLI_OUTPUT_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/cli/unfinished_path.h"

namespace ckpt::cli {

class OutputFile {
 public:
  // ALREADY_EXISTS: something has that name and `replace` is not set, or it is a folder.
  // INVALID_ARGUMENT: it is something else that is never replaced. NOT_FOUND: no such folder.
  static absl::StatusOr<OutputFile> Create(const std::string& path, bool replace);
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;
  ~OutputFile();  // removes the temporary file unless it was published

  const std::string& path() const { return path_; }
  absl::Status WriteAt(uint64_t offset, absl::string_view bytes);  // RESOURCE_EXHAUSTED: disk full
  absl::Status SyncAndClose();
  // SyncAndClose first. Gives it its final name and syncs the folder. Errors as Create: what
  // appeared meanwhile is not replaced either.
  absl::Status Publish();

 private:
  OutputFile(std::string path, std::string temporary, UnfinishedPath unfinished, int descriptor,
             bool replace);
  std::string path_;
  std::string temporary_;  // empty once published
  UnfinishedPath unfinished_;
  int descriptor_;  // -1 once closed
  bool replace_;
};

// As Create, without making anything.
absl::Status CheckReplaceable(const std::string& path, bool replace);
// RESOURCE_EXHAUSTED unless the disk below `folder` has room for `bytes`.
absl::Status CheckRoom(const std::string& folder, uint64_t bytes);
// The folder that a path lies in; "." where it has none.
std::string FolderOf(const std::string& path);

}  // namespace ckpt::cli

#endif  // CKPT_CLIENT_CLI_OUTPUT_FILE_H_
