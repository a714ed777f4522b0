// A part becomes durable. Space was reserved before its first byte was accepted. Then:
//
//   1. Create `<file id>.safetensors.partial` for each data file, its blocks allocated; from here
//      on the disk itself holds the space, and the reservation ends.
//      Crash: a *.partial is removed at the next start, and staging still has the part.
//   2. Read staging in ascending order into aligned buffers of our own; hash them block by block;
//      hand exactly these buffers to the writers. What is hashed is what is written, whatever the
//      trainer does to its mapping; a short read fails the part. The header region goes the same
//      way, from the plan.                                                        Crash: as in 1.
//   3. Cut each file to its true length and rename it; write `<manifest id>.part.partial` and
//      rename it too. Nothing is synced yet: a name alone makes no part, for only a checkpoint
//      manifest makes anybody look for it, and that one gets its name after step 5.
//      Crash: some or all stand under final names, but no checkpoint manifest references them:
//      recovery removes them unless staging's records name the part manifest (then it is whole,
//      for the records are written after step 5).
//      The last part of a share now writes the checkpoint manifest, step 6 of commit.cc.
//   4. Sync the part manifest. A failed sync, here and in 5, is final: the kernel may have dropped
//      the pages, so the part fails and is never synced a second time.            Crash: as in 3.
//   5. Sync the folder, then each data file: durable. One journal commit has carried names and
//      sizes, since the names came first: these find little left to do.
//      Crash: as in 3; a part that staging still has is simply persisted again under new ids.
//
// Steps 6 to 9, the commit, stand in commit.cc.
#include "server/persist/persist_part.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/digest.h"
#include "common/header_region.h"
#include "common/limits.h"
#include "common/manifest.h"
#include "common/status_macros.h"
#include "server/persist/block_hasher.h"
#include "server/persist/part_file.h"
#include "server/storage/names.h"

namespace ckpt {
namespace {

// One read: small enough that hashing finds the bytes in the cache.
constexpr uint64_t kReadBytes = 1 << 20;
constexpr uint64_t kHeaderPieceBytes = 256 << 10;  // for the same reason

class PartJob {
 public:
  PartJob(const PersistTools& tools, const PartToPersist& part)
      : tools_(tools),
        part_(part),
        hasher_(part.layout.get(), tools.hash_blocks),
        manifest_id_(FileId::Random()) {}

  absl::StatusOr<DurablePart> Run() {
    absl::StatusOr<DurablePart> durable = Protocol();
    if (!durable.ok()) {
      tools_.prepared->Forget(part_.uid);
      RemoveEverything();
    }
    return durable;
  }

 private:
  FileSystem& files() { return *tools_.folder->files(); }
  std::string Path(const std::string& name) const {
    return absl::StrCat(tools_.folder->ObjectsFolder(), "/", name);
  }

  absl::StatusOr<DurablePart> Protocol() {
    const absl::Status planned = PlanFiles();
    CKPT_RETURN_IF_ERROR(  // 1
        tools_.reservation->Allocate(part_.layout->part_bytes(), [&]() -> absl::Status {
          CKPT_RETURN_IF_ERROR(planned);
          return CreateFiles();
        }));
    CKPT_RETURN_IF_ERROR(CopyAndHash());  // 2
    for (auto& file : files_) {           // 3
      CKPT_RETURN_IF_ERROR(file->Cut());
      CKPT_RETURN_IF_ERROR(TakeFinalName(names::DataFile(file->id())));
    }
    DurablePart durable;
    durable.manifest = MakeManifest();
    durable.layout = part_.layout;
    const SealedPart sealed = SealPartManifest(durable.manifest, *part_.layout);
    durable.reference = ReferenceTo(sealed);
    PartFile manifest(manifest_id_, sealed.size());
    CKPT_RETURN_IF_ERROR(WriteManifest(sealed, manifest));
    CKPT_RETURN_IF_ERROR(TakeFinalName(names::PartManifest(manifest_id_)));
    tools_.prepared->Written(part_, durable.reference);
    CKPT_RETURN_IF_ERROR(manifest.Sync());                                     // 4
    CKPT_RETURN_IF_ERROR(files().SyncFolder(tools_.folder->ObjectsFolder()));  // 5
    for (auto& file : files_) CKPT_RETURN_IF_ERROR(file->Sync());
    durable.durable_at = absl::Now();
    return durable;
  }

  absl::Status PlanFiles() {
    const PartLayout& layout = *part_.layout;
    for (size_t i = 0; i < layout.files().size(); ++i) {
      const HeaderRegion& header =
          headers_.emplace_back(layout, static_cast<uint32_t>(i), part_.values, part_.id,
                                part_.rank, part_.world_size);
      if (header.size() % kDataAlignmentBytes != 0) {
        return absl::InternalError("a header region is not aligned");
      }
      files_.push_back(std::make_unique<PartFile>(FileId::Random(),
                                                  header.size() + layout.files()[i].length));
    }
    return absl::OkStatus();
  }

  absl::Status CreateFiles() {
    for (auto& file : files_) {
      const std::string name = names::Partial(names::DataFile(file->id()));
      CKPT_RETURN_IF_ERROR(file->Create(&files(), Path(name)));
    }
    return absl::OkStatus();
  }

  absl::Status CopyAndHash() {
    absl::Status status;
    for (size_t i = 0; status.ok() && i < files_.size(); ++i) {
      status = WriteHeader(headers_[i], *files_[i]);
      if (status.ok()) status = CopyFile(*files_[i], part_.layout->files()[i]);
      files_[i]->Abandon(*tools_.buffers, writes_);
    }
    absl::Status written = writes_.Drain();  // always: writers must not outlive the files
    if (!written.ok()) return written;
    CKPT_RETURN_IF_ERROR(status);
    if (hasher_.hashes().size() != part_.layout->block_count()) {
      return absl::InternalError("a part's bytes do not match its layout");
    }
    part_.source->Consumed(part_.layout->part_bytes());
    return absl::OkStatus();
  }

  absl::Status Append(absl::string_view text, PartFile& file) {
    absl::Status status;
    uint64_t room = 0;
    while (!text.empty()) {
      char* to = file.Next(*tools_.buffers, writes_, &room, status);
      CKPT_RETURN_IF_ERROR(status);
      const uint64_t bytes = std::min<uint64_t>(room, text.size());
      std::memcpy(to, text.data(), bytes);
      file.Filled(bytes, *tools_.pool, writes_);
      text.remove_prefix(bytes);
    }
    return absl::OkStatus();
  }

  absl::Status WriteHeader(const HeaderRegion& header, PartFile& file) {
    Xxh3Stream hash;
    const absl::Status written = header.Write(
        [&]() -> absl::StatusOr<absl::Span<char>> {
          absl::Status status;
          uint64_t room = 0;
          char* to = file.Next(*tools_.buffers, writes_, &room, status);
          CKPT_RETURN_IF_ERROR(status);
          return absl::Span<char>(to, std::min(room, kHeaderPieceBytes));
        },
        [&](absl::Span<const char> piece) {
          hash.Update(piece.data(), piece.size());
          file.Filled(piece.size(), *tools_.pool, writes_);
        });
    header_hashes_.push_back(hash.Digest());
    return written;
  }

  absl::Status CopyFile(PartFile& file, const PartLayout::FilePlace& place) {
    absl::Status status;
    uint64_t room = 0;
    part_.source->Consumed(place.part_offset);  // the gap before this file, if any
    for (uint64_t done = 0; done < place.length;) {
      char* to = file.Next(*tools_.buffers, writes_, &room, status);
      CKPT_RETURN_IF_ERROR(status);
      const uint64_t bytes = std::min({room, kReadBytes, place.length - done});
      const uint64_t offset = place.part_offset + done;
      CKPT_RETURN_IF_ERROR(part_.source->Read(offset, to, bytes));
      hasher_.Update(offset, to, bytes);
      file.Filled(bytes, *tools_.pool, writes_);
      part_.source->Consumed(offset + bytes);
      done += bytes;
    }
    return absl::OkStatus();
  }

  v1::PartManifest MakeManifest() const {
    v1::PartManifest manifest;
    manifest.set_format_version(kFormatVersion);
    *manifest.mutable_id() = part_.id.ToProto();
    manifest.set_checkpoint_uid(part_.uid.bytes());
    manifest.set_rank(part_.rank);
    manifest.set_world_size(part_.world_size);
    manifest.mutable_share()->Add(part_.share.begin(), part_.share.end());
    manifest.set_layout_digest(part_.layout->digest());
    *manifest.mutable_values() = part_.values;
    for (size_t i = 0; i < files_.size(); ++i) {
      v1::DataFile* file = manifest.add_files();
      file->set_file_id(files_[i]->id().bytes());
      file->set_length(files_[i]->length());
      file->set_header_length(headers_[i].size());
      file->set_header_hash(header_hashes_[i]);
      file->set_first_shard(part_.layout->files()[i].first_shard);
      file->set_shard_count(part_.layout->files()[i].shard_count);
    }
    manifest.set_block_bytes(kHashBlockBytes);
    manifest.mutable_block_hashes()->Add(hasher_.hashes().begin(), hasher_.hashes().end());
    return manifest;
  }

  v1::PartReference ReferenceTo(const SealedPart& manifest) const {
    v1::PartReference reference;
    reference.set_rank(part_.rank);
    reference.set_manifest_id(manifest_id_.bytes());
    reference.set_manifest_length(manifest.size());
    reference.set_manifest_hash(manifest.xxh3);
    reference.set_data_bytes(part_.layout->data_bytes());
    return reference;
  }

  absl::Status WriteManifest(const SealedPart& manifest, PartFile& file) {
    const std::string name = names::Partial(names::PartManifest(manifest_id_));
    CKPT_RETURN_IF_ERROR(file.Create(&files(), Path(name)));
    absl::Status status;
    for (const absl::string_view piece :
         {absl::string_view(manifest.before), manifest.layout, absl::string_view(manifest.after)}) {
      if (status.ok()) status = Append(piece, file);
    }
    file.Abandon(*tools_.buffers, writes_);
    const absl::Status written = writes_.Drain();
    CKPT_RETURN_IF_ERROR(status);
    CKPT_RETURN_IF_ERROR(written);
    return file.Cut();
  }

  absl::Status TakeFinalName(const std::string& name) {
    return files().Rename(Path(names::Partial(name)), Path(name));
  }

  // Best effort, in the reverse order: what cannot be removed now is an orphan at the next start.
  void RemoveEverything() {
    std::vector<std::string> doomed = {names::PartManifest(manifest_id_)};
    for (const auto& file : files_) doomed.push_back(names::DataFile(file->id()));
    for (const std::string& name : doomed) {
      files().Unlink(Path(name)).IgnoreError();
      files().Unlink(Path(names::Partial(name))).IgnoreError();
    }
  }

  const PersistTools& tools_;
  const PartToPersist& part_;
  std::vector<HeaderRegion> headers_;     // of each file
  std::vector<uint64_t> header_hashes_;  // of those that are written
  std::vector<std::unique_ptr<PartFile>> files_;
  PartWrites writes_;
  BlockHasher hasher_;
  const FileId manifest_id_;
};

}  // namespace

absl::StatusOr<DurablePart> PersistPart(const PersistTools& tools, const PartToPersist& part) {
  return PartJob(tools, part).Run();
}

}  // namespace ckpt
