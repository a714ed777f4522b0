// TagCheckpoint: a tag names one checkpoint of a run; setting it elsewhere moves it.
//
//   1. the checkpoint gets its new labels, synced     (crash after it: both hold the tag)
//   2. the former holders lose the tag, synced
#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/checkpoint_id.h"
#include "common/limits.h"
#include "common/status_macros.h"
#include "server/rpc/catalog.h"
#include "server/rpc/checkpoint_info.h"
#include "server/rpc/checkpoint_labels.h"

namespace ckpt {
namespace {

absl::Status ValidateTags(const v1::TagCheckpointRequest& request) {
  if (request.add_size() == 0 && request.remove_size() == 0) {
    return absl::InvalidArgumentError("no tag to add or to remove was named");
  }
  for (const std::string& tag : request.add()) {
    CKPT_RETURN_IF_ERROR(ValidateTag(tag));
    if (tag[0] == '-') {  // may be removed: earlier daemons took it
      return absl::InvalidArgumentError(
          absl::StrCat("bad tag '", tag, "': with '-' first it would read as a flag"));
    }
  }
  for (const std::string& tag : request.remove()) {
    CKPT_RETURN_IF_ERROR(ValidateTag(tag));
    if (std::find(request.add().begin(), request.add().end(), tag) != request.add().end()) {
      return absl::InvalidArgumentError(
          absl::StrCat("tag '", tag, "' is both to be added and to be removed"));
    }
  }
  return absl::OkStatus();
}

void RemoveTag(v1::Labels& labels, const std::string& tag) {
  auto* tags = labels.mutable_tags();
  tags->erase(std::remove(tags->begin(), tags->end(), tag), tags->end());
}

}  // namespace

absl::Status TagCheckpoint(Catalog& catalog, const v1::TagCheckpointRequest& request,
                           Cancelled cancelled, v1::TagCheckpointResponse& response) {
  CKPT_RETURN_IF_ERROR(ValidateSelector(request.selector()));
  CKPT_RETURN_IF_ERROR(ValidateTags(request));
  CKPT_ASSIGN_OR_RETURN(const auto ahead, catalog.finder->FindAhead(request.selector(),
                                                                    *catalog.rights, cancelled));
  MutexLock lock(catalog.retention->changing());
  CKPT_ASSIGN_OR_RETURN(const CheckpointRecord record,
                        catalog.finder->FindNow(request.selector(), *catalog.rights, ahead));
  v1::Labels labels = record.labels;
  for (const std::string& tag : request.remove()) RemoveTag(labels, tag);
  std::vector<CheckpointRecord> former;
  for (const std::string& tag : request.add()) {
    RemoveTag(labels, tag);
    labels.add_tags(tag);
    auto holder = catalog.index->FindTag(request.selector().run(), tag);
    if (holder.ok() && holder->manifest.checkpoint_uid() != record.manifest.checkpoint_uid()) {
      former.push_back(*std::move(holder));
    }
  }
  if (static_cast<size_t>(labels.tags_size()) > kTagsPerCheckpointMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("a checkpoint has at most ", kTagsPerCheckpointMax,
                     " tags; this one would have ", labels.tags_size()));
  }
  std::sort(labels.mutable_tags()->begin(), labels.mutable_tags()->end());
  CKPT_RETURN_IF_ERROR(StoreLabels(catalog, record, labels));
  for (const CheckpointRecord& holder : former) {
    // Read again: one checkpoint may hold several of the tags.
    CKPT_ASSIGN_OR_RETURN(const CheckpointUid uid, UidOf(holder));
    const auto current = catalog.index->GetCheckpoint(uid);
    if (!current.ok()) continue;
    v1::Labels remaining = current->labels;
    for (const std::string& tag : request.add()) RemoveTag(remaining, tag);
    const absl::Status removed = StoreLabels(catalog, *current, remaining);
    if (!absl::IsNotFound(removed)) CKPT_RETURN_IF_ERROR(removed);  // replaced and gone: fine
  }
  *response.mutable_labels() = labels;
  return absl::OkStatus();
}

}  // namespace ckpt
