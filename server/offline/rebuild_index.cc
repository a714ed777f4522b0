// rebuild-index: the index is only derived, so a damaged one is made anew.
//
//   1. Make `index.rebuild` from the manifests.   Crash: the old index stands; the next run of this
//      verb removes what is left of it.
//   2. Remove the files of the old index.         Crash: an index with files missing, or none; the
//      daemon says so or makes an empty one, and indexes the manifests at its start.
//   3. Rename `index.rebuild` to `index`, sync.   Crash before: as in 2.
// Nothing else in the folder is touched. Deletions that only the old index knew of are forgotten:
// a checkpoint whose manifest still stands is there again.
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "server/index/index.h"
#include "server/offline/command.h"
#include "server/persist/persister.h"
#include "server/storage/names.h"

namespace ckpt::offline {
namespace {

// A folder of files, without sub-folders. OK where there is none.
absl::Status RemoveFlatFolder(FileSystem& files, const std::string& path) {
  absl::StatusOr<std::vector<std::string>> entries = files.List(path);
  if (absl::IsNotFound(entries.status())) return absl::OkStatus();
  if (!entries.ok()) return entries.status();
  for (const std::string& name : *entries) {
    CKPT_RETURN_IF_ERROR(files.Unlink(absl::StrCat(path, "/", name)));
  }
  return files.RemoveFolder(path);
}

}  // namespace

absl::StatusOr<ExitCode> RebuildIndex(const Arguments& arguments, const Output& output) {
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<DataFolder> folder, OpenFolder(arguments.folder));
  FileSystem& files = *folder->files();
  const std::string rebuilt = absl::StrCat(folder->path(), "/", names::kIndexRebuild);
  CKPT_RETURN_IF_ERROR(RemoveFlatFolder(files, rebuilt));
  RecoveryReport report;
  {
    CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<Index> index, Index::Open(rebuilt));  // 1
    CKPT_ASSIGN_OR_RETURN(report, IndexDataFolder(folder.get(), index.get()));
  }
  CKPT_RETURN_IF_ERROR(RemoveFlatFolder(files, folder->IndexFolder()));  // 2
  CKPT_RETURN_IF_ERROR(files.Rename(rebuilt, folder->IndexFolder()));    // 3
  CKPT_RETURN_IF_ERROR(files.SyncFolder(folder->path()));
  for (const std::string& line : report.damage) output.text << "damaged: " << line << "\n";
  output.text << "indexed " << report.indexed
              << (report.indexed == 1 ? " checkpoint" : " checkpoints") << "; " << report.damaged
              << " damaged and left out\n";
  return report.damaged > 0 ? kExitDamaged : kExitOk;
}

}  // namespace ckpt::offline
