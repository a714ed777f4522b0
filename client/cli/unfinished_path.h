// A file or a folder under a temporary name, which Ctrl-C must not leave behind either: SIGINT,
// SIGTERM and SIGHUP remove whatever is registered here, then end the process as they always do. A
// signal that the process ignores stays ignored.
#ifndef CKPT_CLIENT_CLI_UNFINISHED_PATH_H_
#define CKPT_CLIENT_CLI_UNFINISHED_PATH_H_

#include <string>
#include <utility>

namespace ckpt::cli {

// Register a file before it is made, a folder before the files in it. Thread-safe.
class UnfinishedPath {
 public:
  explicit UnfinishedPath(const std::string& path);
  UnfinishedPath(UnfinishedPath&& other) noexcept : entry_(std::exchange(other.entry_, nullptr)) {}
  UnfinishedPath& operator=(UnfinishedPath&&) = delete;
  ~UnfinishedPath() { Forget(); }
  // It is gone, or has become what it was to be.
  void Forget();

 private:
  struct Entry;
  struct Registry;
  Entry* entry_;
};

}  // namespace ckpt::cli

#endif  // CKPT_CLIENT_CLI_UNFINISHED_PATH_H_
