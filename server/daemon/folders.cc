#include "server/daemon/folders.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/byte_size.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

// `mode` is for what has to be made.
absl::Status MakeWritable(const std::string& flag, const std::string& folder, mode_t mode,
                          MadeFolders& made) {
  const auto refuse = [&](const std::string& reason) {
    return absl::InvalidArgumentError(absl::StrCat(flag, ": folder ", folder, " ", reason));
  };
  std::error_code error;
  if (!std::filesystem::is_directory(folder, error)) {
    if (std::filesystem::exists(folder, error)) {
      return absl::InvalidArgumentError(absl::StrCat(flag, ": ", folder, " is not a folder"));
    }
    error = made.Make(folder);
    if (error) return refuse(absl::StrCat("cannot be made: ", error.message()));
    ::chmod(folder.c_str(), mode);
  }
  // By writing, not by access(2): that answers root's question wrongly on read-only file systems.
  std::string probe = folder + "/.ckptd-probe-XXXXXX";
  const int descriptor = ::mkostemp(probe.data(), O_CLOEXEC);
  // A full disk is none of this call's business: what is on it can be served.
  if (descriptor < 0 && (errno == ENOSPC || errno == EDQUOT)) return absl::OkStatus();
  if (descriptor < 0) return refuse(absl::StrCat("cannot be written: ", std::strerror(errno)));
  ::close(descriptor);
  ::unlink(probe.c_str());
  return absl::OkStatus();
}

absl::Status CheckMemoryFolder(Config& config) {
  struct statfs kind;
  if (::statfs(config.memory_dir.c_str(), &kind) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("--memory-dir: ", config.memory_dir, ": ", std::strerror(errno)));
  }
  if (kind.f_type != TMPFS_MAGIC) {
    return absl::InvalidArgumentError(
        absl::StrCat("--memory-dir: folder ", config.memory_dir,
                     " is on a disk, not on a tmpfs: staging there would be as slow as the disk; "
                     "use a folder below /dev/shm, or mount a tmpfs"));
  }
  // /dev/shm is everybody's, and what lies staged in the folder is adopted.
  struct stat owner;
  if (::stat(config.memory_dir.c_str(), &owner) == 0 && owner.st_uid != ::geteuid() &&
      owner.st_uid != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("--memory-dir: folder ", config.memory_dir, " belongs to uid ", owner.st_uid,
                     ", who could put checkpoints into it: remove it, or name another one"));
  }
  const uint64_t total = static_cast<uint64_t>(kind.f_blocks) * kind.f_bsize;
  if (config.memory_budget == 0) {
    config.memory_budget = DefaultMemoryBudget();
    if (total != 0) config.memory_budget = std::min(config.memory_budget, total / 4 * 3);
  }
  if (total != 0 && config.memory_budget > total) {  // 0: a tmpfs without a bound
    return absl::InvalidArgumentError(
        absl::StrCat("--memory-budget: ", PrintByteSize(config.memory_budget), " is more than the ",
                     PrintByteSize(total), " that the tmpfs of --memory-dir (", config.memory_dir,
                     ") can hold: lower the budget or enlarge it (mount -o remount,size=...)"));
  }
  return absl::OkStatus();
}

}  // namespace

MadeFolders::~MadeFolders() {
  for (auto folder = made_.rbegin(); folder != made_.rend(); ++folder) ::rmdir(folder->c_str());
}

std::error_code MadeFolders::Make(const std::filesystem::path& folder) {
  std::error_code error;
  if (std::filesystem::is_directory(folder, error)) return {};
  const std::filesystem::path parent = folder.parent_path();
  if (parent != folder && !parent.empty()) {
    if (error = Make(parent); error) return error;
  }
  if (std::filesystem::create_directory(folder, error)) made_.push_back(folder.string());
  return error;
}

absl::Status PrepareFolders(Config& config, MadeFolders& made) {
  const std::string socket_folder = std::filesystem::path(config.socket).parent_path().string();
  CKPT_RETURN_IF_ERROR(MakeWritable("--socket", socket_folder, 0755, made));
  std::error_code error;
  if (std::filesystem::is_directory(config.socket, error)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--socket: ", config.socket, " is a folder; name a file in it"));
  }
  CKPT_RETURN_IF_ERROR(MakeWritable("--memory-dir", config.memory_dir, 0700, made));
  CKPT_RETURN_IF_ERROR(CheckMemoryFolder(config));
  return MakeWritable("--data-dir", config.data_dir, 0700, made);
}

}  // namespace ckpt
