// One file, in order:
//   1. Read it; where its length, header and every block are right, it stays.
//   2. Write `<file id>.safetensors.partial`, every block checked.   Crash: removed at the next start.
//   3. Sync it.                                                       Crash: as in 2.
//   4. Rename it over the final name, sync the folder.                Crash: the old file or the new.
#include "server/persist/repair_part.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "common/checkpoint_id.h"
#include "common/digest.h"
#include "common/layout.h"
#include "common/limits.h"
#include "common/safetensors.h"
#include "common/status_macros.h"
#include "server/storage/names.h"

namespace ckpt {
namespace {

class FileRepair {
 public:
  FileRepair(DataFolder* folder, const v1::PartManifest& part, const PartLayout& layout,
             uint32_t number, PartSource& source)
      : folder_(folder),
        part_(part),
        layout_(layout),
        number_(number),
        file_(part.files(static_cast<int>(number))),
        source_(source),
        block_(kHashBlockBytes, '\0') {}

  // True where the file was replaced.
  absl::StatusOr<bool> Run() {
    CKPT_ASSIGN_OR_RETURN(const FileId id, FileId::FromBytes(file_.file_id(), "file id"));
    auto opened = folder_->OpenDataFile(id);
    if (!opened.ok() && !SaysDamaged(opened.status())) return opened.status();
    if (opened.ok() && (*opened)->size() == file_.length()) old_ = *std::move(opened);
    if (old_ != nullptr && IsGood()) return false;
    const std::string name = names::DataFile(id);
    CKPT_ASSIGN_OR_RETURN(const CheckpointId checkpoint, CheckpointId::FromProto(part_.id()));
    const std::string header = MakeHeaderRegion(layout_, number_, part_.values(), checkpoint,
                                                part_.rank(), part_.world_size());
    if (header.size() != file_.header_length() || Xxh3(header) != file_.header_hash()) {
      return absl::DataLossError(
          absl::StrCat(name, ": this ckptd writes another header than the one that was saved"));
    }
    FileSystem& files = *folder_->files();
    const std::string final_path = absl::StrCat(folder_->ObjectsFolder(), "/", name);
    const std::string partial = names::Partial(final_path);
    CKPT_ASSIGN_OR_RETURN(const auto file,  // 2
                          files.Create(partial, {.preallocate_bytes = file_.length()}));
    absl::Cleanup remove = [&] { files.Unlink(partial).IgnoreError(); };
    CKPT_RETURN_IF_ERROR(file->WriteAt(0, header.data(), header.size()));
    CKPT_RETURN_IF_ERROR(CopyBlocks(*file));
    CKPT_RETURN_IF_ERROR(file->Sync());  // 3
    CKPT_RETURN_IF_ERROR(file->Close());
    CKPT_RETURN_IF_ERROR(files.Rename(partial, final_path));  // 4
    std::move(remove).Cancel();
    CKPT_RETURN_IF_ERROR(files.SyncFolder(folder_->ObjectsFolder()));
    return true;
  }

 private:
  // Calls `visit(part offset, file offset, bytes, hash)` for each block, until it answers not OK.
  template <typename Visit>
  absl::Status ForEachBlock(Visit visit) {
    const uint64_t region = layout_.files()[number_].part_offset;
    for (uint32_t i = 0; i < file_.shard_count(); ++i) {
      const PartLayout::ShardPlace& shard = layout_.shards()[file_.first_shard() + i];
      for (uint64_t at = 0; at < shard.length; at += kHashBlockBytes) {
        const uint64_t part_offset = shard.part_offset + at;
        const auto number = static_cast<int>(shard.first_block + at / kHashBlockBytes);
        CKPT_RETURN_IF_ERROR(visit(part_offset, file_.header_length() + part_offset - region,
                                   std::min(kHashBlockBytes, shard.length - at),
                                   part_.block_hashes(number)));
      }
    }
    return absl::OkStatus();
  }

  bool ReadOld(uint64_t offset, uint64_t bytes, uint64_t hash) {
    return old_ != nullptr && old_->ReadAt(offset, block_.data(), bytes).ok() &&
           Xxh3(block_.data(), bytes) == hash;
  }

  bool IsGood() {
    std::string header(file_.header_length(), '\0');
    if (!old_->ReadAt(0, header.data(), header.size()).ok()) return false;
    if (Xxh3(header) != file_.header_hash()) return false;
    return ForEachBlock([&](uint64_t, uint64_t offset, uint64_t bytes, uint64_t hash) {
             return ReadOld(offset, bytes, hash) ? absl::OkStatus() : absl::DataLossError("");
           })
        .ok();
  }

  absl::Status CopyBlocks(WritableFile& file) {
    return ForEachBlock([&](uint64_t part_offset, uint64_t offset, uint64_t bytes, uint64_t hash) {
      if (!ReadOld(offset, bytes, hash)) {
        CKPT_RETURN_IF_ERROR(source_.Read(part_offset, block_.data(), bytes));
        if (Xxh3(block_.data(), bytes) != hash) {
          return absl::DataLossError(absl::StrCat("the block at part offset ", part_offset,
                                                  " is damaged in the other tier as well"));
        }
      }
      return file.WriteAt(offset, block_.data(), bytes);
    });
  }

  DataFolder* const folder_;
  const v1::PartManifest& part_;
  const PartLayout& layout_;
  const uint32_t number_;
  const v1::DataFile& file_;
  PartSource& source_;
  std::unique_ptr<ReadableFile> old_;  // null: missing, or of another length
  std::string block_;
};

}  // namespace

absl::StatusOr<uint32_t> RepairPart(DataFolder* folder, const v1::PartManifest& part,
                                    PartSource& source) {
  CKPT_ASSIGN_OR_RETURN(const auto layout, PartLayout::FromProto(part.layout()));
  if (layout->digest() != part.layout_digest() ||
      layout->files().size() != static_cast<size_t>(part.files_size()) ||
      layout->block_count() != static_cast<uint64_t>(part.block_hashes_size())) {
    return absl::DataLossError("manifest and layout do not belong together");
  }
  uint32_t replaced = 0;
  for (uint32_t i = 0; i < static_cast<uint32_t>(part.files_size()); ++i) {
    CKPT_ASSIGN_OR_RETURN(const bool made_anew, FileRepair(folder, part, *layout, i, source).Run());
    replaced += made_anew ? 1 : 0;
  }
  return replaced;
}

}  // namespace ckpt
