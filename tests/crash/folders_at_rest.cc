#include "tests/crash/folders_at_rest.h"

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "common/ids.h"
#include "common/manifest.h"
#include "common/status_macros.h"
#include "server/staging/staged_plan.pb.h"
#include "server/storage/names.h"
#include "tests/fixtures/process.h"

namespace ckpt::testing {
namespace {

namespace fs = std::filesystem;

std::set<std::string> NamesIn(const std::string& folder) {
  std::set<std::string> found;
  std::error_code error;
  fs::directory_iterator walk(folder, error);
  for (; !error && walk != fs::directory_iterator(); walk.increment(error)) {
    found.insert(walk->path().filename().string());
  }
  return found;
}

struct Needed {
  std::set<CheckpointId> checkpoints;
  std::set<std::string> uids;
  std::set<std::string> objects;
};

absl::StatusOr<Needed> ReadManifests(const std::string& data_folder) {
  Needed needed;
  const std::string folder = absl::StrCat(data_folder, "/", names::kCheckpoints);
  for (const std::string& name : NamesIn(folder)) {
    if (!names::ParseCheckpointManifest(name).has_value()) continue;
    CKPT_ASSIGN_OR_RETURN(
        const v1::CheckpointManifest manifest,
        OpenCheckpointManifest(ReadWholeFile(absl::StrCat(folder, "/", name)), name));
    CKPT_ASSIGN_OR_RETURN(const CheckpointId id, CheckpointId::FromProto(manifest.id()));
    needed.checkpoints.insert(id);
    needed.uids.insert(manifest.checkpoint_uid());
    for (const v1::PartReference& part : manifest.parts()) {
      CKPT_ASSIGN_OR_RETURN(const FileId part_id, FileId::FromBytes(part.manifest_id(), "part"));
      const std::string part_name = names::PartManifest(part_id);
      needed.objects.insert(part_name);
      CKPT_ASSIGN_OR_RETURN(
          const v1::PartManifest opened,
          OpenPartManifest(ReadWholeFile(absl::StrCat(data_folder, "/", names::kObjects, "/",
                                                      part_name)),
                           part_name));
      for (const v1::DataFile& file : opened.files()) {
        CKPT_ASSIGN_OR_RETURN(const FileId file_id, FileId::FromBytes(file.file_id(), "file"));
        needed.objects.insert(names::DataFile(file_id));
      }
    }
  }
  return needed;
}

absl::Status Differ(absl::string_view folder, const std::set<std::string>& there,
                    const std::set<std::string>& needed) {
  for (const std::string& name : there) {
    if (!needed.contains(name)) {
      return absl::FailedPreconditionError(
          absl::StrCat(folder, "/", name, " belongs to no checkpoint"));
    }
  }
  for (const std::string& name : needed) {
    if (!there.contains(name)) {
      return absl::FailedPreconditionError(absl::StrCat(folder, "/", name, " is missing"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckMemory(const std::string& memory_folder, const Needed& needed) {
  const std::string parts = memory_folder + "/parts";  // names: server/staging/part_folder.h
  for (const std::string& name : NamesIn(parts)) {
    const std::string folder = absl::StrCat(parts, "/", name);
    staging::StagedPlan plan;
    CKPT_RETURN_IF_ERROR(OpenEnvelope(EnvelopeKind::kStagedPlan,
                                      ReadWholeFile(folder + "/committed"), folder, &plan));
    if (needed.uids.contains(plan.checkpoint_uid())) continue;
    return absl::FailedPreconditionError(
        absl::StrCat(folder, " holds a part of step ", plan.id().step(), ", which is not there"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::set<CheckpointId>> CheckpointsAtRest(const std::string& data_folder,
                                                         const std::string& memory_folder) {
  CKPT_ASSIGN_OR_RETURN(Needed needed, ReadManifests(data_folder));
  CKPT_RETURN_IF_ERROR(Differ(names::kObjects,
                              NamesIn(absl::StrCat(data_folder, "/", names::kObjects)),
                              needed.objects));
  for (const std::string& name : NamesIn(absl::StrCat(data_folder, "/", names::kCheckpoints))) {
    if (names::ParseCheckpointManifest(name).has_value()) continue;
    const std::optional<CheckpointUid> uid = names::ParseLabels(name);
    if (!uid.has_value() || !needed.uids.contains(uid->bytes())) {
      return absl::FailedPreconditionError(
          absl::StrCat(names::kCheckpoints, "/", name, " belongs to no checkpoint"));
    }
  }
  CKPT_RETURN_IF_ERROR(CheckMemory(memory_folder, needed));
  return std::move(needed.checkpoints);
}

}  // namespace ckpt::testing
