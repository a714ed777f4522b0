// AnnotateCheckpoint: pin, metrics and note of a committed checkpoint.
#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/limits.h"
#include "common/retention_policy.h"
#include "common/status_macros.h"
#include "server/rpc/catalog.h"
#include "server/rpc/checkpoint_labels.h"

namespace ckpt {
namespace {

absl::Status ValidateAnnotations(const v1::AnnotateCheckpointRequest& request) {
  if (!request.has_pinned() && request.set_metrics().empty() &&
      request.remove_metrics().empty() && !request.has_note()) {
    return absl::InvalidArgumentError("nothing to change was named: a pin, a metric or a note");
  }
  for (const auto& [name, value] : request.set_metrics()) {
    CKPT_RETURN_IF_ERROR(ValidateMetricName(name));
    if (std::isnan(value)) {
      return absl::InvalidArgumentError(absl::StrCat("metric ", name, " is NaN: leave it out"));
    }
  }
  for (const std::string& name : request.remove_metrics()) {
    CKPT_RETURN_IF_ERROR(ValidateMetricName(name));
    if (request.set_metrics().contains(name)) {
      return absl::InvalidArgumentError(
          absl::StrCat("metric ", name, " is both to be set and to be removed"));
    }
  }
  if (request.note().size() > kNoteBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat("a note has at most ", kNoteBytesMax,
                                                   " bytes, this one ", request.note().size()));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status AnnotateCheckpoint(Catalog& catalog, const v1::AnnotateCheckpointRequest& request,
                                Cancelled cancelled, v1::AnnotateCheckpointResponse& response) {
  CKPT_RETURN_IF_ERROR(ValidateSelector(request.selector()));
  CKPT_RETURN_IF_ERROR(ValidateAnnotations(request));
  CKPT_ASSIGN_OR_RETURN(const auto ahead, catalog.finder->FindAhead(request.selector(),
                                                                    *catalog.rights, cancelled));
  MutexLock lock(catalog.retention->changing());
  CKPT_ASSIGN_OR_RETURN(const CheckpointRecord record,
                        catalog.finder->FindNow(request.selector(), *catalog.rights, ahead));
  v1::Labels labels = record.labels;
  if (request.has_pinned()) labels.set_pinned(request.pinned());
  if (request.has_note()) labels.set_note(request.note());
  for (const std::string& name : request.remove_metrics()) labels.mutable_metrics()->erase(name);
  for (const auto& [name, value] : request.set_metrics()) {
    (*labels.mutable_metrics())[name] = value;
  }
  if (labels.metrics().size() > kMetricsPerCheckpointMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("a checkpoint has at most ", kMetricsPerCheckpointMax,
                     " metrics; this one would have ", labels.metrics().size()));
  }
  CKPT_RETURN_IF_ERROR(StoreLabels(catalog, record, labels));
  *response.mutable_labels() = labels;
  return absl::OkStatus();
}

}  // namespace ckpt
