// A disk whose power can be cut: ext4 in a file, by way of a loop device. The cut is the kernel's
// own (EXT4_IOC_SHUTDOWN, its journal not flushed): what has not been synced and has not been
// written back by chance is gone, and the next mount replays the journal, as after a real one.
// Needs root and loop devices. Not thread-safe, but for Cut.
#ifndef CKPT_TESTS_CRASH_POWER_DISK_H_
#define CKPT_TESTS_CRASH_POWER_DISK_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace ckpt::testing {

class PowerDisk {
 public:
  // Made and mounted at `folder`/disk. PERMISSION_DENIED where this machine does not allow it.
  static absl::StatusOr<std::unique_ptr<PowerDisk>> Make(const std::string& folder);
  // Unmounts what a process that died has left there.
  static void Detach(const std::string& folder);
  ~PowerDisk();  // unmounts; the image stays
  PowerDisk(const PowerDisk&) = delete;
  PowerDisk& operator=(const PowerDisk&) = delete;

  const std::string& path() const { return path_; }
  absl::Status Cut();
  // Mounts it again. Nobody may have it open any more.
  absl::Status PowerOn();

 private:
  explicit PowerDisk(const std::string& folder);
  absl::Status Mount();
  absl::Status Unmount();

  const std::string image_;
  const std::string path_;
};

}  // namespace ckpt::testing

#endif  // CKPT_TESTS_CRASH_POWER_DISK_H_
