#include "server/rpc/disk_verification.h"

#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/layout.h"
#include "common/status_macros.h"
#include "server/persist/verify_part.h"

namespace ckpt {
namespace {

constexpr size_t kDamageShownMax = 1000;
constexpr uint64_t kReportEveryBytes = 64 << 20;

class Verification {
 public:
  Verification(DataFolder* folder, absl::FunctionRef<bool(const VerificationProgress&)> report)
      : folder_(folder), report_(report) {}

  absl::StatusOr<VerificationProgress> Run(const CheckpointRecord& record) {
    // Files that a deletion must not take away while they are read.
    std::vector<DataFolder::FilePin> pins;
    std::vector<v1::PartManifest> manifests;
    for (const v1::PartReference& part : record.manifest.parts()) {
      absl::StatusOr<v1::PartManifest> manifest = folder_->ReadPartManifest(part);
      if (!manifest.ok()) {
        Damage(absl::StrCat("part of rank ", part.rank(), ": ", manifest.status().message()));
        continue;
      }
      for (const v1::DataFile& file : manifest->files()) {
        const auto id = FileId::FromBytes(file.file_id(), "file_id");
        absl::StatusOr<DataFolder::FilePin> pin = id.ok() ? folder_->Pin(*id) : id.status();
        if (pin.ok()) pins.push_back(*std::move(pin));  // VerifyPart tells what is missing
      }
      progress_.bytes_total += PartBytesOnDisk(*manifest);
      manifests.push_back(*std::move(manifest));
    }
    CKPT_RETURN_IF_ERROR(Report());
    for (const v1::PartManifest& manifest : manifests) CKPT_RETURN_IF_ERROR(Verify(manifest));
    CKPT_RETURN_IF_ERROR(Report());
    return std::move(progress_);
  }

 private:
  void Damage(std::string text) {
    if (progress_.damage.size() == kDamageShownMax) {
      progress_.damage.push_back("further damage is not listed");
    }
    if (progress_.damage.size() < kDamageShownMax) progress_.damage.push_back(std::move(text));
  }

  absl::Status Report() {
    reported_ = progress_.bytes_done;
    return report_(progress_) ? absl::OkStatus() : absl::CancelledError("verification cancelled");
  }

  absl::Status Verify(const v1::PartManifest& manifest) {
    const auto layout = PartLayout::FromProto(manifest.layout());
    if (!layout.ok()) {
      Damage(absl::StrCat("part of rank ", manifest.rank(),
                          ": its layout does not hold together: ", layout.status().message()));
      return absl::OkStatus();
    }
    const auto damage = [this](const std::string& line) { Damage(line); };
    const auto progress = [this](uint64_t bytes) {
      progress_.bytes_done += bytes;
      return progress_.bytes_done - reported_ < kReportEveryBytes || Report().ok();
    };
    const absl::Status status = VerifyPart(folder_, manifest, **layout, {damage, progress});
    if (absl::IsCancelled(status)) return status;
    if (!status.ok()) {
      Damage(absl::StrCat("part of rank ", manifest.rank(), ": ", status.message()));
    }
    return absl::OkStatus();
  }

  DataFolder* const folder_;
  const absl::FunctionRef<bool(const VerificationProgress&)> report_;
  VerificationProgress progress_;
  uint64_t reported_ = 0;
};

}  // namespace

absl::StatusOr<VerificationProgress> VerifyOnDisk(
    DataFolder* folder, const CheckpointRecord& record,
    absl::FunctionRef<bool(const VerificationProgress&)> progress) {
  return Verification(folder, progress).Run(record);
}

}  // namespace ckpt
