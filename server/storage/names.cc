#include "server/storage/names.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace ckpt::names {
namespace {

constexpr absl::string_view kDataFile = ".safetensors";
constexpr absl::string_view kPartManifest = ".part";
constexpr absl::string_view kCheckpointManifest = ".checkpoint";
constexpr absl::string_view kLabels = ".labels";
constexpr absl::string_view kPartial = ".partial";

template <typename Id>
std::optional<Id> Parse(absl::string_view name, absl::string_view suffix) {
  if (!absl::ConsumeSuffix(&name, suffix)) return std::nullopt;
  auto id = Id::FromHex(name, "name");
  if (!id.ok() || id->none()) return std::nullopt;
  return *id;
}

}  // namespace

std::string DataFile(FileId id) { return absl::StrCat(id.hex(), kDataFile); }
std::string PartManifest(FileId id) { return absl::StrCat(id.hex(), kPartManifest); }
std::string CheckpointManifest(CheckpointUid uid) {
  return absl::StrCat(uid.hex(), kCheckpointManifest);
}
std::string Labels(CheckpointUid uid) { return absl::StrCat(uid.hex(), kLabels); }
std::string Partial(absl::string_view name) { return absl::StrCat(name, kPartial); }
bool IsPartial(absl::string_view name) { return absl::EndsWith(name, kPartial); }

std::optional<FileId> ParseDataFile(absl::string_view name) {
  return Parse<FileId>(name, kDataFile);
}
std::optional<FileId> ParsePartManifest(absl::string_view name) {
  return Parse<FileId>(name, kPartManifest);
}
std::optional<CheckpointUid> ParseCheckpointManifest(absl::string_view name) {
  return Parse<CheckpointUid>(name, kCheckpointManifest);
}
std::optional<CheckpointUid> ParseLabels(absl::string_view name) {
  return Parse<CheckpointUid>(name, kLabels);
}

}  // namespace ckpt::names
