// Every name that the daemon makes on disk, in one place.
//
//   <data>/FORMAT                              text: "ckptd data folder, format 1\n"
//   <data>/LOCK                                flock'ed by the daemon, or by an offline tool
//   <data>/RETENTION                           policies of runs that SetRetention has set
//   <data>/BALLAST                             room for a full disk; may be removed by hand
//   <data>/objects/<file id>.safetensors       data files
//   <data>/objects/<manifest id>.part          part manifests
//   <data>/objects/*.partial                   being written; removed at start
//   <data>/checkpoints/<uid>.checkpoint        checkpoint manifests: the commit point
//   <data>/checkpoints/<uid>.labels            tags, pins, metrics, notes
//   <data>/index/                              RocksDB, derived from the above
//   <data>/index.rebuild/                      an index being rebuilt offline; removed at start
//   <data>/index.replaced/                     the one that it has replaced; removed at start
#ifndef CKPT_SERVER_STORAGE_NAMES_H_
#define CKPT_SERVER_STORAGE_NAMES_H_

#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "common/ids.h"

namespace ckpt::names {

inline constexpr char kFormat[] = "FORMAT";
inline constexpr char kLock[] = "LOCK";
inline constexpr char kRetention[] = "RETENTION";
inline constexpr char kBallast[] = "BALLAST";
inline constexpr char kObjects[] = "objects";
inline constexpr char kCheckpoints[] = "checkpoints";
inline constexpr char kIndex[] = "index";
inline constexpr char kIndexRebuild[] = "index.rebuild";
inline constexpr char kIndexReplaced[] = "index.replaced";

std::string DataFile(FileId id);      // "<hex>.safetensors"
std::string PartManifest(FileId id);  // "<hex>.part"
std::string CheckpointManifest(CheckpointUid uid);
std::string Labels(CheckpointUid uid);
std::string Partial(absl::string_view name);  // NAME.partial
bool IsPartial(absl::string_view name);
std::optional<FileId> ParseDataFile(absl::string_view name);
std::optional<FileId> ParsePartManifest(absl::string_view name);
std::optional<CheckpointUid> ParseCheckpointManifest(absl::string_view name);
std::optional<CheckpointUid> ParseLabels(absl::string_view name);

}  // namespace ckpt::names

#endif  // CKPT_SERVER_STORAGE_NAMES_H_
