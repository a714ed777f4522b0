#include "server/persist/verify_on_disk.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/layout.h"
#include "common/status_macros.h"
#include "server/persist/verify_part.h"
#include "server/storage/names.h"

namespace ckpt {
namespace {

constexpr size_t kDamageShownMax = 1000;

class Verification {
 public:
  Verification(DataFolder* folder, CheckpointUid uid, const VerifyOptions& options,
               absl::FunctionRef<bool(const VerificationProgress&)> report)
      : folder_(folder), uid_(uid), options_(options), report_(report) {}

  absl::StatusOr<VerificationProgress> Run() {
    CKPT_ASSIGN_OR_RETURN(const std::optional<v1::CheckpointManifest> manifest, ReadManifest());
    const absl::Status labels = folder_->ReadLabels(uid_).status();
    if (!labels.ok()) {
      if (!SaysDamaged(labels)) return labels;
      AddLine(std::string(labels.message()));
    }
    if (!manifest.has_value()) return std::move(progress_);
    // Files that a deletion must not take away while they are read.
    std::vector<DataFolder::FilePin> pins;
    std::vector<const v1::PartReference*> sound;
    for (const v1::PartReference& reference : manifest->parts()) {
      const auto part = ReadPart(*manifest, reference);
      if (!part.ok()) {
        CKPT_RETURN_IF_ERROR(Damage(reference, part.status()));
        continue;
      }
      for (const v1::DataFile& file : part->files()) {
        const auto id = FileId::FromBytes(file.file_id(), "file_id");
        if (!id.ok()) continue;  // as VerifyPart will say
        absl::StatusOr<DataFolder::FilePin> pin = folder_->Pin(*id);
        if (pin.ok()) {
          pins.push_back(*std::move(pin));
        } else if (!SaysDamaged(pin.status())) {  // VerifyPart tells what is missing
          return pin.status();
        }
      }
      progress_.bytes_total += PartBytesOnDisk(*part);
      sound.push_back(&reference);
    }
    CKPT_RETURN_IF_ERROR(Report());
    // Read once more: those of all parts together may be large.
    for (const v1::PartReference* reference : sound) {
      const auto part = ReadPart(*manifest, *reference);
      CKPT_RETURN_IF_ERROR(part.ok() ? Verify(*part) : Damage(*reference, part.status()));
    }
    CKPT_RETURN_IF_ERROR(Report());
    return std::move(progress_);
  }

 private:
  void AddLine(std::string text) {
    if (progress_.damage.size() == kDamageShownMax) {
      progress_.damage.push_back("further damage is not listed");
    }
    if (progress_.damage.size() < kDamageShownMax) progress_.damage.push_back(std::move(text));
  }
  void Damage(std::string text) {
    progress_.labels_only = false;
    AddLine(std::move(text));
  }

  // `status` back where it says nothing about what lies on disk.
  absl::Status Damage(const v1::PartReference& reference, const absl::Status& status) {
    if (!SaysDamaged(status)) return status;
    Damage(absl::StrCat("rank ", reference.rank(), ": ", status.message()));
    return absl::OkStatus();
  }

  absl::Status Report() {
    reported_ = progress_.bytes_done;
    return report_(progress_) ? absl::OkStatus() : absl::CancelledError("verification cancelled");
  }

  absl::StatusOr<std::optional<v1::CheckpointManifest>> ReadManifest() {
    absl::StatusOr<v1::CheckpointManifest> read = folder_->ReadCheckpointManifest(uid_);
    const std::string name = names::CheckpointManifest(uid_);
    if (absl::IsNotFound(read.status())) {
      Damage(absl::StrCat(name, " is missing on disk"));
    } else if (!read.ok()) {
      if (!SaysDamaged(read.status())) return read.status();
      Damage(std::string(read.status().message()));
    } else if (options_.known != nullptr &&
               read->SerializeAsString() != options_.known->SerializeAsString()) {
      Damage(absl::StrCat(name, " says something else than the index: stop the daemon, run "
                                "`ckptutil rebuild-index DATA_FOLDER`, start it again"));
    }
    if (read.ok()) return *std::move(read);
    if (options_.known != nullptr) return *options_.known;
    return std::nullopt;
  }

  absl::StatusOr<v1::PartManifest> ReadPart(const v1::CheckpointManifest& manifest,
                                            const v1::PartReference& reference) {
    const auto id = FileId::FromBytes(reference.manifest_id(), "manifest_id");
    if (!id.ok()) return absl::DataLossError(absl::StrCat("", id.status().message()));
    const std::string name = names::PartManifest(*id);
    absl::StatusOr<v1::PartManifest> part = folder_->ReadPartManifest(reference);
    if (absl::IsNotFound(part.status())) {
      return absl::DataLossError(absl::StrCat(name, " is missing on disk"));
    }
    CKPT_RETURN_IF_ERROR(part.status());
    if (part->checkpoint_uid() != manifest.checkpoint_uid() || part->rank() != reference.rank()) {
      return absl::DataLossError(absl::StrCat(name, " is the manifest of another part"));
    }
    return part;
  }

  absl::Status Verify(const v1::PartManifest& part) {
    const std::string where = absl::StrCat("rank ", part.rank(), ": ");
    const auto layout = PartLayout::FromProto(part.layout());
    if (!layout.ok()) {
      Damage(absl::StrCat(where, "its layout does not hold together: ", layout.status().message()));
      return absl::OkStatus();
    }
    const auto damage = [&](const std::string& line) { Damage(absl::StrCat(where, line)); };
    const auto progress = [this](uint64_t bytes) {
      progress_.bytes_done += bytes;
      return progress_.bytes_done - reported_ < options_.report_every_bytes || Report().ok();
    };
    const absl::Status status =
        VerifyPart(folder_, part, **layout, {damage, progress}, options_.past_cache);
    if (!absl::IsInvalidArgument(status)) return status;
    damage(std::string(status.message()));
    return absl::OkStatus();
  }

  DataFolder* const folder_;
  const CheckpointUid uid_;
  const VerifyOptions& options_;
  const absl::FunctionRef<bool(const VerificationProgress&)> report_;
  VerificationProgress progress_;
  uint64_t reported_ = 0;
};

}  // namespace

absl::StatusOr<VerificationProgress> VerifyOnDisk(
    DataFolder* folder, CheckpointUid uid, const VerifyOptions& options,
    absl::FunctionRef<bool(const VerificationProgress&)> progress) {
  return Verification(folder, uid, options, progress).Run();
}

}  // namespace ckpt
