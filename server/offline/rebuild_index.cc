// rebuild-index: the index is only derived, so a damaged one is made anew.
//
//   1. Make `index.rebuild` from the manifests.   Crash: the old index stands.
//   2. Rename `index` to `index.replaced`.        Crash: there is no index; the daemon's start
//      makes an empty one and indexes the manifests.
//   3. Rename `index.rebuild` to `index`, sync.   Crash before the sync: any of the above, or done.
//   4. Remove `index.replaced`.                   Crash: what is left of it goes at the next
//      start, as does an `index.rebuild`.
// So an index is never there in part. Nothing else in the folder is touched. Deletions that only
// the old index knew of are forgotten: a checkpoint whose manifest still stands is there again.
// So a new index awaits confirmation, and retention deletes nothing before
// (Index::AwaitsConfirmation).
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "server/index/index.h"
#include "server/offline/command.h"
#include "server/persist/persister.h"
#include "server/storage/names.h"

namespace ckpt::offline {

absl::StatusOr<RecoveryReport> RebuildIndexOf(DataFolder* folder, IndexEnvironment* environment) {
  FileSystem& files = *folder->files();
  const std::string rebuilt = absl::StrCat(folder->path(), "/", names::kIndexRebuild);
  const std::string replaced = absl::StrCat(folder->path(), "/", names::kIndexReplaced);
  CKPT_RETURN_IF_ERROR(files.RemoveFlatFolder(rebuilt));
  CKPT_RETURN_IF_ERROR(files.RemoveFlatFolder(replaced));
  RecoveryReport report;
  {
    CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<Index> index,
                          Index::Open(rebuilt, environment));  // 1
    CKPT_ASSIGN_OR_RETURN(report, IndexDataFolder(folder, index.get()));
  }
  const absl::Status aside = files.Rename(folder->IndexFolder(), replaced);  // 2
  if (!aside.ok() && !absl::IsNotFound(aside)) return aside;
  CKPT_RETURN_IF_ERROR(files.Rename(rebuilt, folder->IndexFolder()));  // 3
  CKPT_RETURN_IF_ERROR(files.SyncFolder(folder->path()));
  CKPT_RETURN_IF_ERROR(files.RemoveFlatFolder(replaced));  // 4
  return report;
}

absl::StatusOr<ExitCode> RebuildIndex(const Arguments& arguments, const Output& output) {
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<DataFolder> folder, OpenFolder(arguments.folder));
  CKPT_ASSIGN_OR_RETURN(const RecoveryReport report, RebuildIndexOf(folder.get()));
  for (const std::string& line : report.damage) output.text << "damaged: " << line << "\n";
  output.text << "indexed " << report.indexed
              << (report.indexed == 1 ? " checkpoint" : " checkpoints") << "; " << report.damaged
              << " damaged and left out\n";
  if (report.indexed > 0) {
    output.text << "retention deletes nothing until `ckptctl retention confirm`\n";
  }
  return report.damaged > 0 ? kExitDamaged : kExitOk;
}

}  // namespace ckpt::offline
