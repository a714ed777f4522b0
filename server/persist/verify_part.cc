#include "server/persist/verify_part.h"

#include <algorithm>
#include <memory>

#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/limits.h"
#include "common/status_macros.h"
#include "server/storage/direct_read.h"
#include "server/storage/names.h"

namespace ckpt {
namespace {

constexpr uint64_t kVerifyReadBytes = 8 << 20;
static_assert(kVerifyReadBytes % kHashBlockBytes == 0);

class FileCheck {
 public:
  FileCheck(const v1::PartManifest& manifest, const PartLayout& layout, const v1::DataFile& file,
            const VerifyCallbacks& callbacks)
      : manifest_(manifest),
        layout_(layout),
        file_(file),
        callbacks_(callbacks),
        name_(names::DataFile(*FileId::FromBytes(file.file_id(), "file id"))),
        buffer_(new char[kVerifyReadBytes]) {}

  absl::Status Run(DataFolder* folder, bool past_cache) {
    auto opened = folder->OpenDataFile(*FileId::FromBytes(file_.file_id(), "file id"));
    if (!opened.ok()) {
      CKPT_RETURN_IF_ERROR(UnlessDamage(opened.status()));
      callbacks_.damage(absl::StrCat(name_, ": cannot be opened: ", opened.status().message()));
      return Progress(file_.length());
    }
    input_ = past_cache ? PastTheCache(*std::move(opened)) : *std::move(opened);
    if (input_->size() != file_.length()) {
      callbacks_.damage(
          absl::StrCat(name_, ": is ", input_->size(), " bytes long, must be ", file_.length()));
    }
    CKPT_RETURN_IF_ERROR(CheckHeader());
    for (uint32_t i = 0; i < file_.shard_count(); ++i) {
      CKPT_RETURN_IF_ERROR(CheckShard(file_.first_shard() + i));
    }
    return absl::OkStatus();
  }

 private:
  // What says nothing about the file ends the verification.
  static absl::Status UnlessDamage(const absl::Status& error) {
    return SaysDamaged(error) ? absl::OkStatus() : error;
  }

  absl::Status Progress(uint64_t bytes) {
    return callbacks_.progress(bytes) ? absl::OkStatus() : absl::CancelledError("verification");
  }

  absl::Status CheckHeader() {
    Xxh3Stream hash;
    for (uint64_t done = 0; done < file_.header_length();) {
      const uint64_t bytes = std::min(kVerifyReadBytes, file_.header_length() - done);
      absl::Status read = input_->ReadAt(done, buffer_.get(), bytes);
      if (!read.ok()) {
        CKPT_RETURN_IF_ERROR(UnlessDamage(read));
        callbacks_.damage(absl::StrCat(name_, ": header: ", read.message()));
        return Progress(file_.header_length() - done);
      }
      hash.Update(buffer_.get(), bytes);
      done += bytes;
      CKPT_RETURN_IF_ERROR(Progress(bytes));
    }
    if (hash.Digest() != file_.header_hash()) {
      callbacks_.damage(
          absl::StrCat(name_, ": header: wrong hash, offset 0, ", file_.header_length(), " bytes"));
    }
    return absl::OkStatus();
  }

  absl::Status CheckShard(uint32_t shard) {
    const PartLayout::ShardPlace& place = layout_.shards()[shard];
    const uint64_t begin =
        file_.header_length() + place.part_offset - layout_.files()[place.file].part_offset;
    for (uint64_t done = 0; done < place.length;) {
      const uint64_t bytes = std::min(kVerifyReadBytes, place.length - done);
      absl::Status read = input_->ReadAt(begin + done, buffer_.get(), bytes);
      if (!read.ok()) {
        CKPT_RETURN_IF_ERROR(UnlessDamage(read));
        callbacks_.damage(
            absl::StrCat(Where(shard), ", offset ", begin + done, ": ", read.message()));
        return Progress(place.length - done);
      }
      for (uint64_t at = 0; at < bytes; at += kHashBlockBytes) {
        const uint64_t block = std::min(kHashBlockBytes, bytes - at);
        const uint64_t number = place.first_block + (done + at) / kHashBlockBytes;
        if (Xxh3(buffer_.get() + at, block) == manifest_.block_hashes(static_cast<int>(number))) {
          continue;
        }
        callbacks_.damage(absl::StrCat(Where(shard), ": wrong hash, offset ", begin + done + at,
                                       ", ", block, " bytes"));
      }
      done += bytes;
      CKPT_RETURN_IF_ERROR(Progress(bytes));
    }
    return absl::OkStatus();
  }

  std::string Where(uint32_t shard) const {
    const ShardView view = layout_.shard_boxes()[shard];
    return absl::StrCat(name_, ": ", layout_.leaves().printed_key(view.leaf), " ",
                        view.box().ToString());
  }

  const v1::PartManifest& manifest_;
  const PartLayout& layout_;
  const v1::DataFile& file_;
  const VerifyCallbacks& callbacks_;
  const std::string name_;
  const std::unique_ptr<char[]> buffer_;
  std::unique_ptr<ReadableFile> input_;
};

}  // namespace

uint64_t PartBytesOnDisk(const v1::PartManifest& manifest) {
  uint64_t bytes = 0;
  for (const v1::DataFile& file : manifest.files()) bytes += file.length();
  return bytes;
}

absl::Status VerifyPart(DataFolder* folder, const v1::PartManifest& manifest,
                        const PartLayout& layout, const VerifyCallbacks& callbacks,
                        bool past_cache) {
  if (manifest.layout_digest() != layout.digest() ||
      static_cast<size_t>(manifest.files_size()) != layout.files().size() ||
      static_cast<uint64_t>(manifest.block_hashes_size()) != layout.block_count()) {
    return absl::InvalidArgumentError("manifest and layout do not belong together");
  }
  for (int i = 0; i < manifest.files_size(); ++i) {
    const v1::DataFile& file = manifest.files(i);
    const PartLayout::FilePlace& place = layout.files()[static_cast<size_t>(i)];
    if (file.first_shard() != place.first_shard || file.shard_count() != place.shard_count ||
        file.length() != file.header_length() + place.length ||
        !FileId::FromBytes(file.file_id(), "file id").ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("data file ", i, " of the manifest does not fit its layout"));
    }
    CKPT_RETURN_IF_ERROR(FileCheck(manifest, layout, file, callbacks).Run(folder, past_cache));
  }
  return absl::OkStatus();
}

}  // namespace ckpt
