// verify: from each checkpoint manifest down to the last byte of its data files.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/byte_size.h"
#include "common/checkpoint_id.h"
#include "common/layout.h"
#include "common/status_macros.h"
#include "server/offline/command.h"
#include "server/persist/verify_part.h"
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
    for (const CheckpointUid uid : labels) {
      absl::Status status = folder_->ReadLabels(uid).status();
      if (!status.ok()) Damage(names::Labels(uid), status.message());
    }
    if (progress_) output_.errors << "\r\033[K";
    output_.text << uids.size() << (uids.size() == 1 ? " checkpoint, " : " checkpoints, ")
                 << PrintByteSize(bytes_) << " read, " << damage_
                 << (damage_ == 1 ? " place" : " places") << " damaged\n";
    return damage_ > 0 ? kExitDamaged : kExitOk;
  }

 private:
  absl::Status VerifyCheckpoint(CheckpointUid uid) {
    absl::StatusOr<v1::CheckpointManifest> manifest = folder_->ReadCheckpointManifest(uid);
    if (!manifest.ok()) {
      Damage(names::CheckpointManifest(uid), manifest.status().message());
      return absl::OkStatus();
    }
    checkpoint_ = absl::StrCat(manifest->id().run(), "@", manifest->id().step());
    for (const v1::PartReference& reference : manifest->parts()) {
      CKPT_RETURN_IF_ERROR(VerifyReferenced(*manifest, reference));
    }
    return absl::OkStatus();
  }

  absl::Status VerifyReferenced(const v1::CheckpointManifest& manifest,
                                const v1::PartReference& reference) {
    const std::string where = absl::StrCat(checkpoint_, " rank ", reference.rank());
    absl::StatusOr<v1::PartManifest> part = folder_->ReadPartManifest(reference);
    if (!part.ok()) {
      Damage(where, part.status().message());
      return absl::OkStatus();
    }
    if (part->checkpoint_uid() != manifest.checkpoint_uid() || part->rank() != reference.rank()) {
      Damage(where, "its part manifest belongs elsewhere");
      return absl::OkStatus();
    }
    absl::StatusOr<std::shared_ptr<const PartLayout>> layout =
        PartLayout::FromProto(part->layout());
    if (!layout.ok()) {
      Damage(where, layout.status().message());
      return absl::OkStatus();
    }
    absl::Status verified =
        VerifyPart(folder_, *part, **layout,
                   {.damage = [&](const std::string& line) { Damage(where, line); },
                    .progress = [&](uint64_t bytes) { return Progress(bytes); }});
    if (absl::IsInvalidArgument(verified)) Damage(where, verified.message());
    return absl::IsInvalidArgument(verified) ? absl::OkStatus() : verified;
  }

  bool Progress(uint64_t bytes) {
    bytes_ += bytes;
    if (progress_ && bytes_ / kStepBytes != (bytes_ - bytes) / kStepBytes) {
      output_.errors << "\r\033[K" << checkpoint_ << "  " << PrintByteSize(bytes_) << " read"
                     << std::flush;
    }
    return true;
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
