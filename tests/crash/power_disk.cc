#include "tests/crash/power_disk.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "tests/fixtures/process.h"

namespace ckpt::testing {
namespace {

constexpr uint64_t kImageBytes = 512 << 20;  // sparse
constexpr absl::Duration kUnmountWithin = absl::Seconds(30);
// linux/ext4.h: not among the headers that Debian installs.
constexpr unsigned long kExt4Shutdown = _IOR('X', 125, uint32_t);
constexpr uint32_t kWithoutLogFlush = 2;

absl::Status Do(std::vector<std::string> command) {
  CKPT_ASSIGN_OR_RETURN(const CommandResult result, RunCommand(command));
  if (result.exit_status == 0) return absl::OkStatus();
  return absl::PermissionDeniedError(absl::StrCat(command[0], ": ", result.errors));
}

}  // namespace

PowerDisk::PowerDisk(const std::string& folder)
    : image_(absl::StrCat(folder, "/disk.img")), path_(absl::StrCat(folder, "/disk")) {}

absl::StatusOr<std::unique_ptr<PowerDisk>> PowerDisk::Make(const std::string& folder) {
  std::unique_ptr<PowerDisk> disk(new PowerDisk(folder));
  std::filesystem::create_directories(disk->path_);
  const int image = open(disk->image_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (image < 0 || ftruncate(image, kImageBytes) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("making ", disk->image_));
  }
  close(image);
  CKPT_RETURN_IF_ERROR(Do({"/sbin/mkfs.ext4", "-q", "-F", disk->image_}));
  CKPT_RETURN_IF_ERROR(disk->Mount());
  return disk;
}

void PowerDisk::Detach(const std::string& folder) {
  umount2(absl::StrCat(folder, "/disk").c_str(), MNT_DETACH);
}

PowerDisk::~PowerDisk() { Unmount().IgnoreError(); }

absl::Status PowerDisk::Mount() { return Do({"/bin/mount", "-o", "loop", image_, path_}); }

absl::Status PowerDisk::Unmount() {
  // A process that was killed may hold its files for a moment longer.
  const absl::Time deadline = absl::Now() + kUnmountWithin;
  while (umount(path_.c_str()) != 0) {
    if (errno != EBUSY || absl::Now() > deadline) {
      return absl::ErrnoToStatus(errno, absl::StrCat("unmounting ", path_));
    }
    absl::SleepFor(absl::Milliseconds(1));
  }
  return absl::OkStatus();
}

absl::Status PowerDisk::Cut() {
  const int root = open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (root < 0) return absl::ErrnoToStatus(errno, absl::StrCat("opening ", path_));
  const int answer = ioctl(root, kExt4Shutdown, &kWithoutLogFlush);
  const absl::Status status =
      answer == 0 ? absl::OkStatus() : absl::ErrnoToStatus(errno, "EXT4_IOC_SHUTDOWN");
  close(root);
  return status;
}

absl::Status PowerDisk::PowerOn() {
  CKPT_RETURN_IF_ERROR(Unmount());
  const absl::Status mounted = Mount();  // it could be before: no reason to skip
  return mounted.ok() ? mounted
                      : absl::InternalError(absl::StrCat("the disk does not come back after the ",
                                                         "cut: ", mounted.message()));
}

}  // namespace ckpt::testing
