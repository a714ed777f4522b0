#include "common/manifest.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/checkpoint_id.h"
#include "common/digest.h"
#include "common/layout.h"
#include "common/limits.h"
#include "common/quoted.h"
#include "common/status_macros.h"
#include "common/values.h"
#include "common/varint.h"

namespace ckpt {
namespace {

constexpr size_t kMagicBytes = 8;
constexpr size_t kEnvelopePrefixBytes = 24;  // magic, version, reserved, length
constexpr size_t kChecksumBytes = 16;

absl::string_view Magic(EnvelopeKind kind) {
  switch (kind) {
    case EnvelopeKind::kPartManifest:
      return "CKPTPART";
    case EnvelopeKind::kCheckpointManifest:
      return "CKPTCKPT";
    case EnvelopeKind::kLabels:
      return "CKPTLABL";
    case EnvelopeKind::kStagedPlan:
      return "CKPTPLAN";
    case EnvelopeKind::kRetention:
      return "CKPTRETN";
  }
  return "CKPT????";
}

template <typename Number>
void AppendLittleEndian(Number number, std::string& out) {
  for (size_t i = 0; i < sizeof(Number); ++i) out.push_back(static_cast<char>(number >> (8 * i)));
}

template <typename Number>
Number ReadLittleEndian(absl::string_view bytes) {
  Number number = 0;
  for (size_t i = 0; i < sizeof(Number); ++i) {
    number |= static_cast<Number>(static_cast<unsigned char>(bytes[i])) << (8 * i);
  }
  return number;
}

// What stands before a payload.
std::string Prefix(EnvelopeKind kind, uint64_t payload_bytes) {
  std::string out;
  out.reserve(kEnvelopePrefixBytes);
  const absl::string_view magic = Magic(kind);
  out.append(magic.data(), magic.size());
  AppendLittleEndian<uint32_t>(kFormatVersion, out);
  AppendLittleEndian<uint32_t>(0, out);
  AppendLittleEndian<uint64_t>(payload_bytes, out);
  return out;
}

absl::Status Damaged(absl::string_view file_name, absl::string_view why) {
  return absl::DataLossError(absl::StrCat("damaged file ", file_name, ": ", why));
}

// Ranks ascending, without repetition, below world_size.
absl::Status CheckShare(absl::Span<const uint32_t> share, uint32_t world_size) {
  if (world_size == 0 || world_size > kWorldSizeMax) {
    return absl::DataLossError(absl::StrCat("world size ", world_size));
  }
  if (share.empty()) return absl::DataLossError("an empty share");
  for (size_t i = 0; i < share.size(); ++i) {
    if (share[i] >= world_size || (i > 0 && share[i - 1] >= share[i])) {
      return absl::DataLossError("a share that is not a sorted list of ranks below the world size");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckFiles(const v1::PartManifest& manifest, const PartLayout& layout) {
  if (static_cast<size_t>(manifest.files_size()) != layout.files().size()) {
    return absl::DataLossError(absl::StrCat(
        manifest.files_size(), " data files where the layout has ", layout.files().size()));
  }
  for (int i = 0; i < manifest.files_size(); ++i) {
    const v1::DataFile& file = manifest.files(i);
    const PartLayout::FilePlace& place = layout.files()[i];
    CKPT_RETURN_IF_ERROR(FileId::FromBytes(file.file_id(), "file id").status());
    if (file.first_shard() != place.first_shard || file.shard_count() != place.shard_count) {
      return absl::DataLossError(
          absl::StrCat("data file ", i, " holds other shards than the layout says"));
    }
    if (file.header_length() == 0 || file.header_length() % kDataAlignmentBytes != 0 ||
        file.header_length() > kHeaderBytesMax ||
        file.length() != file.header_length() + place.length) {
      return absl::DataLossError(absl::StrCat(
          "data file ", i, " has ", file.length(), " bytes, header ", file.header_length(),
          ", where the layout has ", place.length, " bytes of data"));
    }
  }
  if (manifest.block_bytes() != kHashBlockBytes ||
      static_cast<uint64_t>(manifest.block_hashes_size()) != layout.block_count()) {
    return absl::DataLossError(absl::StrCat(manifest.block_hashes_size(), " block hashes of ",
                                            manifest.block_bytes(), " bytes where the layout has ",
                                            layout.block_count(), " of ", kHashBlockBytes));
  }
  return absl::OkStatus();
}

absl::Status CheckPart(const v1::PartManifest& manifest) {
  CKPT_RETURN_IF_ERROR(CheckpointId::FromProto(manifest.id()).status());
  CKPT_RETURN_IF_ERROR(
      CheckpointUid::FromBytes(manifest.checkpoint_uid(), "checkpoint uid").status());
  CKPT_RETURN_IF_ERROR(CheckShare(manifest.share(), manifest.world_size()));
  if (!std::binary_search(manifest.share().begin(), manifest.share().end(), manifest.rank())) {
    return absl::DataLossError(absl::StrCat("rank ", manifest.rank(), " is not in its own share"));
  }
  CKPT_ASSIGN_OR_RETURN(const auto layout, PartLayout::FromProto(manifest.layout()));
  if (layout->digest() != manifest.layout_digest()) {
    return absl::DataLossError("the layout's digest is not the one that is written");
  }
  CKPT_RETURN_IF_ERROR(ValidateValues(manifest.values(), *layout));
  return CheckFiles(manifest, *layout);
}

absl::Status CheckCheckpoint(const v1::CheckpointManifest& manifest) {
  CKPT_RETURN_IF_ERROR(CheckpointId::FromProto(manifest.id()).status());
  CKPT_RETURN_IF_ERROR(
      CheckpointUid::FromBytes(manifest.checkpoint_uid(), "checkpoint uid").status());
  if (!manifest.replaces_uid().empty()) {
    CKPT_RETURN_IF_ERROR(
        CheckpointUid::FromBytes(manifest.replaces_uid(), "replaced uid").status());
  }
  CKPT_RETURN_IF_ERROR(CheckShare(manifest.share(), manifest.world_size()));
  if (manifest.parts_size() != manifest.share_size()) {
    return absl::DataLossError(absl::StrCat(manifest.parts_size(), " parts for a share of ",
                                            manifest.share_size(), " ranks"));
  }
  for (int i = 0; i < manifest.parts_size(); ++i) {
    CKPT_RETURN_IF_ERROR(
        FileId::FromBytes(manifest.parts(i).manifest_id(), "manifest id").status());
    if (manifest.parts(i).rank() != manifest.share(i)) {
      return absl::DataLossError(absl::StrCat("part ", i, " is of rank ", manifest.parts(i).rank(),
                                              ", the share says ", manifest.share(i)));
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::string SealEnvelope(EnvelopeKind kind, const google::protobuf::MessageLite& message) {
  std::string payload;
  {
    google::protobuf::io::StringOutputStream stream(&payload);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    message.SerializeToCodedStream(&coded);
  }
  std::string out = Prefix(kind, payload.size()) + payload;
  out += Xxh3Canonical128(out);
  return out;
}

SealedPart SealPartManifest(const v1::PartManifest& manifest, const PartLayout& layout) {
  // Fields are written in ascending order: the layout comes between what is small and the rest.
  v1::PartManifest before;
  before.set_format_version(manifest.format_version());
  *before.mutable_id() = manifest.id();
  before.set_checkpoint_uid(manifest.checkpoint_uid());
  before.set_rank(manifest.rank());
  before.set_world_size(manifest.world_size());
  *before.mutable_share() = manifest.share();
  before.set_layout_digest(manifest.layout_digest());
  const size_t before_bytes = before.ByteSizeLong();
  const std::string all = manifest.SerializeAsString();
  std::string tag;
  PutVarint(tag, v1::PartManifest::kLayoutFieldNumber << 3 | 2);  // length-delimited
  PutVarint(tag, layout.serialized().size());
  SealedPart sealed;
  sealed.layout = layout.serialized();
  sealed.before = Prefix(EnvelopeKind::kPartManifest,
                         all.size() + tag.size() + sealed.layout.size());
  sealed.before.append(all, 0, before_bytes);
  sealed.before += tag;
  sealed.after = all.substr(before_bytes);
  Xxh3Stream hash;
  hash.Update(sealed.before);
  hash.Update(sealed.layout);
  hash.Update(sealed.after);
  const std::string checksum = hash.DigestCanonical128();
  sealed.after += checksum;
  hash.Update(checksum);
  sealed.xxh3 = hash.Digest();
  return sealed;
}

absl::Status OpenEnvelope(EnvelopeKind kind, absl::string_view bytes, absl::string_view file_name,
                          google::protobuf::MessageLite* message) {
  if (bytes.size() < kEnvelopePrefixBytes + kChecksumBytes) {
    return Damaged(file_name, absl::StrCat("only ", bytes.size(), " bytes"));
  }
  if (bytes.substr(0, kMagicBytes) != Magic(kind)) {
    return Damaged(file_name, absl::StrCat("it begins with ", Quoted(bytes.substr(0, kMagicBytes)),
                                           ", not with ", Magic(kind)));
  }
  // The envelope is the same in every version, so that the checksum can be trusted first.
  const absl::string_view checked = bytes.substr(0, bytes.size() - kChecksumBytes);
  if (bytes.substr(checked.size()) != Xxh3Canonical128(checked)) {
    return Damaged(file_name, "its checksum is wrong");
  }
  const uint32_t version = ReadLittleEndian<uint32_t>(bytes.substr(8));
  if (version > kFormatVersion) {
    return absl::FailedPreconditionError(absl::StrCat(
        "file ", file_name, " has format version ", version, "; this program knows versions up to ",
        kFormatVersion, ": use a newer ckptd"));
  }
  const absl::string_view payload = checked.substr(kEnvelopePrefixBytes);
  if (version == 0 || ReadLittleEndian<uint64_t>(bytes.substr(16)) != payload.size()) {
    return Damaged(file_name, "version or length is wrong");
  }
  if (payload.size() > static_cast<size_t>(INT32_MAX) ||
      !message->ParseFromArray(payload.data(), static_cast<int>(payload.size()))) {
    return Damaged(file_name, "its contents do not parse");
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::PartManifest> OpenPartManifest(absl::string_view bytes,
                                                  absl::string_view file_name) {
  v1::PartManifest manifest;
  CKPT_RETURN_IF_ERROR(OpenEnvelope(EnvelopeKind::kPartManifest, bytes, file_name, &manifest));
  const absl::Status status = CheckPart(manifest);
  if (!status.ok()) return Damaged(file_name, absl::StrCat("", status.message()));
  return manifest;
}

absl::StatusOr<v1::CheckpointManifest> OpenCheckpointManifest(absl::string_view bytes,
                                                              absl::string_view file_name) {
  v1::CheckpointManifest manifest;
  CKPT_RETURN_IF_ERROR(
      OpenEnvelope(EnvelopeKind::kCheckpointManifest, bytes, file_name, &manifest));
  const absl::Status status = CheckCheckpoint(manifest);
  if (!status.ok()) return Damaged(file_name, absl::StrCat("", status.message()));
  return manifest;
}

}  // namespace ckpt
