// verify: from each checkpoint manifest down to the last byte of its data files.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/byte_size.h"
#include "common/checkpoint_id.h"
#include "common/status_macros.h"
#include "server/offline/command.h"
#include "server/persist/verify_on_disk.h"
#include "server/storage/names.h"

namespace ckpt::offline {
namespace {

class Verification {
 public:
  Verification(DataFolder* folder, const Output& output, bool progress)
      : folder_(folder), output_(output), progress_(progress) {}

  absl::StatusOr<ExitCode> Run() {
    CKPT_ASSIGN_OR_RETURN(std::vector<CheckpointUid> uids, folder_->ListCheckpointManifests());
    std::sort(uids.begin(), uids.end());
    for (const CheckpointUid uid : uids) CKPT_RETURN_IF_ERROR(VerifyCheckpoint(uid));
    CKPT_ASSIGN_OR_RETURN(const std::vector<CheckpointUid> labels, folder_->ListLabels());
    for (const CheckpointUid uid : labels) {  // of nothing
      if (std::binary_search(uids.begin(), uids.end(), uid)) continue;
      CKPT_RETURN_IF_ERROR(Read(names::Labels(uid), folder_->ReadLabels(uid).status()));
    }
    CKPT_RETURN_IF_ERROR(Read(names::kRetention, folder_->ReadRetention().status()));
    if (progress_) output_.errors << "\r\033[K";
    output_.text << uids.size() << (uids.size() == 1 ? " checkpoint, " : " checkpoints, ")
                 << PrintByteSize(bytes_) << " read, " << damage_
                 << (damage_ == 1 ? " place" : " places") << " damaged\n";
    return damage_ > 0 ? kExitDamaged : kExitOk;
  }

 private:
  absl::Status VerifyCheckpoint(CheckpointUid uid) {
    const absl::StatusOr<v1::CheckpointManifest> manifest = folder_->ReadCheckpointManifest(uid);
    checkpoint_ = manifest.ok() ? absl::StrCat(manifest->id().run(), "@", manifest->id().step())
                                : names::CheckpointManifest(uid);
    uint64_t done = 0;
    const auto progress = [&](const VerificationProgress& now) {
      Progress(now.bytes_done - std::exchange(done, now.bytes_done));
      return true;
    };
    CKPT_ASSIGN_OR_RETURN(const VerificationProgress read,
                          VerifyOnDisk(folder_, uid, {.report_every_bytes = kStepBytes}, progress));
    for (const std::string& line : read.damage) Damage(checkpoint_, line);
    return absl::OkStatus();
  }

  void Progress(uint64_t bytes) {
    bytes_ += bytes;
    if (progress_) {
      output_.errors << "\r\033[K" << checkpoint_ << "  " << PrintByteSize(bytes_) << " read"
                     << std::flush;
    }
  }

  // An error that says nothing about what lies on disk ends the command.
  absl::Status Read(absl::string_view where, const absl::Status& read) {
    if (!read.ok() && !SaysDamaged(read)) return read;
    if (!read.ok()) Damage(where, read.message());
    return absl::OkStatus();
  }

  void Damage(absl::string_view where, absl::string_view what) {
    ++damage_;
    if (progress_) output_.errors << "\r\033[K";
    output_.text << "damaged: " << std::string(where) << ": " << std::string(what) << "\n";
  }

  static constexpr uint64_t kStepBytes = 64 << 20;
  DataFolder* const folder_;
  const Output& output_;
  const bool progress_;
  std::string checkpoint_;
  uint64_t bytes_ = 0;
  uint64_t damage_ = 0;
};

}  // namespace

absl::StatusOr<ExitCode> Verify(const Arguments& arguments, const Output& output) {
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<DataFolder> folder, OpenFolder(arguments.folder));
  return Verification(folder.get(), output, output.progress && !arguments.quiet).Run();
}

}  // namespace ckpt::offline
