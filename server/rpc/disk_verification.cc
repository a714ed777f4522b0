#include "server/rpc/disk_verification.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/layout.h"
#include "common/limits.h"
#include "common/status_macros.h"
#include "server/storage/names.h"

namespace ckpt {
namespace {

constexpr size_t kDamageShownMax = 1000;
constexpr uint64_t kReadBytes = 4 * kHashBlockBytes;
constexpr uint64_t kReportEveryBytes = 64 << 20;

class Verification {
 public:
  Verification(DataFolder* folder, absl::FunctionRef<bool(const VerificationProgress&)> report)
      : folder_(folder), report_(report), buffer_(kReadBytes, '\0') {}

  absl::StatusOr<VerificationProgress> Run(const CheckpointRecord& record) {
    for (const v1::PartReference& part : record.manifest.parts()) {
      progress_.bytes_total += part.data_bytes();
    }
    for (const v1::PartReference& part : record.manifest.parts()) {
      const uint64_t before = progress_.bytes_done;
      CKPT_RETURN_IF_ERROR(VerifyPart(part));
      progress_.bytes_done = before + part.data_bytes();  // damaged files were not read to the end
    }
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

  absl::Status VerifyPart(const v1::PartReference& reference) {
    const absl::StatusOr<v1::PartManifest> manifest = folder_->ReadPartManifest(reference);
    if (!manifest.ok()) {
      Damage(absl::StrCat("part of rank ", reference.rank(), ": ", manifest.status().message()));
      return absl::OkStatus();
    }
    const auto layout = PartLayout::FromProto(manifest->layout());
    if (!layout.ok() || (*layout)->files().size() != static_cast<size_t>(manifest->files_size())) {
      Damage(
          absl::StrCat("part of rank ", reference.rank(), ": its layout does not hold together"));
      return absl::OkStatus();
    }
    for (int i = 0; i < manifest->files_size(); ++i) {
      CKPT_RETURN_IF_ERROR(VerifyFile(*manifest, **layout, i));
    }
    return absl::OkStatus();
  }

  absl::Status VerifyFile(const v1::PartManifest& manifest, const PartLayout& layout, int number) {
    const v1::DataFile& entry = manifest.files(number);
    const auto id = FileId::FromBytes(entry.file_id(), "file_id");
    if (!id.ok()) {
      Damage(absl::StrCat("part of rank ", manifest.rank(), ": data file ", number, " has no id"));
      return absl::OkStatus();
    }
    const std::string name = names::DataFile(*id);
    const absl::StatusOr<DataFolder::FilePin> pin = folder_->Pin(*id);
    absl::StatusOr<std::unique_ptr<ReadableFile>> file =
        pin.ok() ? folder_->OpenDataFile(*id) : pin.status();
    if (!file.ok()) {
      Damage(absl::StrCat(name, ": ", file.status().message()));
      return absl::OkStatus();
    }
    if ((*file)->size() != entry.length()) {
      Damage(absl::StrCat(name, ": is ", (*file)->size(), " bytes long, must be ", entry.length()));
      return absl::OkStatus();
    }
    std::string header(entry.header_length(), '\0');
    if (const absl::Status read = (*file)->ReadAt(0, header.data(), header.size()); !read.ok()) {
      Damage(absl::StrCat(name, ": header: ", read.message()));
    } else if (Xxh3(header) != entry.header_hash()) {
      Damage(absl::StrCat(name, ": the header at offset 0 fails its hash"));
    }
    const uint64_t region = layout.files()[number].part_offset;
    for (uint32_t s = entry.first_shard(); s < entry.first_shard() + entry.shard_count(); ++s) {
      const uint64_t begin = entry.header_length() + layout.shards()[s].part_offset - region;
      CKPT_RETURN_IF_ERROR(VerifyShard(manifest, layout, s, **file, begin, name));
    }
    return absl::OkStatus();
  }

  absl::Status VerifyShard(const v1::PartManifest& manifest, const PartLayout& layout,
                           uint32_t shard, const ReadableFile& file, uint64_t begin,
                           const std::string& name) {
    const PartLayout::ShardPlace& place = layout.shards()[shard];
    const std::string& key = layout.printed_keys()[layout.proto().shards(shard).leaf()];
    for (uint64_t offset = 0; offset < place.length; offset += kReadBytes) {
      const uint64_t bytes = std::min(kReadBytes, place.length - offset);
      if (const absl::Status read = file.ReadAt(begin + offset, buffer_.data(), bytes);
          !read.ok()) {
        Damage(absl::StrCat(name, ": ", key, " at file offset ", begin + offset, ": ",
                            read.message()));
        return absl::OkStatus();
      }
      for (uint64_t at = 0; at < bytes; at += kHashBlockBytes) {
        const uint64_t block = place.first_block + (offset + at) / kHashBlockBytes;
        const uint64_t length = std::min(kHashBlockBytes, bytes - at);
        if (Xxh3(buffer_.data() + at, length) != manifest.block_hashes(static_cast<int>(block))) {
          Damage(absl::StrCat(name, ": ", key, ": the block at file offset ", begin + offset + at,
                              " fails its hash"));
        }
      }
      progress_.bytes_done += bytes;
      if (progress_.bytes_done - reported_ >= kReportEveryBytes) CKPT_RETURN_IF_ERROR(Report());
    }
    return absl::OkStatus();
  }

  DataFolder* const folder_;
  const absl::FunctionRef<bool(const VerificationProgress&)> report_;
  std::string buffer_;
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
