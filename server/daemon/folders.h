// The folders that the daemon lives in, made and checked before anything is opened in them.
#ifndef CKPT_SERVER_DAEMON_FOLDERS_H_
#define CKPT_SERVER_DAEMON_FOLDERS_H_

#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

#include "absl/status/status.h"
#include "server/config.h"

namespace ckpt {

// The folders that a start has made, outermost first: one that is refused leaves none of them
// behind, unless there is something in it.
class MadeFolders {
 public:
  MadeFolders() = default;
  ~MadeFolders();
  MadeFolders(const MadeFolders&) = delete;
  MadeFolders& operator=(const MadeFolders&) = delete;
  // With the folders above it; what is there already is not made.
  std::error_code Make(const std::filesystem::path& folder);
  void Keep() { made_.clear(); }

 private:
  std::vector<std::string> made_;
};

// Makes the folders of socket, data and memory where they are missing and checks that they can be
// written (as far as there is room), that the memory folder is a tmpfs and that the budget fits in
// it; a budget that nobody set becomes the default, at most three quarters of the tmpfs.
// INVALID_ARGUMENT with the setting, the folder and the reason.
absl::Status PrepareFolders(Config& config, MadeFolders& made);

}  // namespace ckpt

#endif  // CKPT_SERVER_DAEMON_FOLDERS_H_
