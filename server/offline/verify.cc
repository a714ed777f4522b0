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
  Verification(DataFolder* folder, const Output& output, bool json, bool progress)
      : folder_(folder), output_(output), json_(json), progress_(progress) {}

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
    Summarize(uids.size());
    return damage_.empty() ? kExitOk : kExitDamaged;
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
    damage_.push_back({{"where", std::string(where)}, {"what", std::string(what)}});
    if (json_) return;
    if (progress_) output_.errors << "\r\033[K";
    output_.text << "damaged: " << std::string(where) << ": " << std::string(what) << "\n";
  }

  void Summarize(size_t checkpoints) {
    if (json_) {
      const Json all = {{"checkpoints", checkpoints}, {"bytes", bytes_}, {"damage", damage_}};
      output_.text << Printed(all) << "\n";
      return;
    }
    output_.text << checkpoints << (checkpoints == 1 ? " checkpoint, " : " checkpoints, ")
                 << PrintByteSize(bytes_) << " read, " << damage_.size()
                 << (damage_.size() == 1 ? " place" : " places") << " damaged\n";
  }

  static constexpr uint64_t kStepBytes = 64 << 20;
  DataFolder* const folder_;
  const Output& output_;
  const bool json_;
  const bool progress_;
  std::string checkpoint_;
  uint64_t bytes_ = 0;
  Json damage_ = Json::array();  // each: where, what
};

}  // namespace

absl::StatusOr<ExitCode> Verify(const Arguments& arguments, const Output& output) {
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<DataFolder> folder, OpenFolder(arguments.folder));
  const bool progress = output.progress && !arguments.quiet;
  return Verification(folder.get(), output, arguments.json, progress).Run();
}

}  // namespace ckpt::offline
