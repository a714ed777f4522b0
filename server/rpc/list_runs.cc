// ListRuns: the index's runs, merged in name order with those that have only live checkpoints yet;
// of all of them those that the caller may read. Page tokens hold the last name that was shown.
#include <map>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/limits.h"
#include "common/status_macros.h"
#include "server/rpc/catalog.h"
#include "server/rpc/page_token.h"

namespace ckpt {
namespace {

absl::Status ValidatePrefix(absl::string_view prefix) {
  bool good = prefix.size() <= kRunBytesMax;
  for (const char c : prefix.substr(0, kRunBytesMax)) {
    good = good && (absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-' || c == '/');
  }
  if (good) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("prefix must be at most ", kRunBytesMax,
                                                 " bytes of [A-Za-z0-9._/-], got '",
                                                 absl::CHexEscape(prefix.substr(0, 100)), "'"));
}

}  // namespace

absl::Status ListRuns(Catalog& catalog, const v1::ListRunsRequest& request,
                      v1::ListRunsResponse& response) {
  CKPT_RETURN_IF_ERROR(ValidatePrefix(request.prefix()));
  CKPT_ASSIGN_OR_RETURN(const uint32_t items_max, PageItems(request.page_size()));
  const std::string question = absl::StrCat("ListRuns ", request.prefix());
  std::string after;
  if (!request.page_token().empty()) {
    CKPT_ASSIGN_OR_RETURN(after, OpenPageToken(question, request.page_token()));
  }

  // Live ones first: one that commits in between is then found in the index, not lost.
  std::map<std::string, v1::RunInfo> runs;
  for (const v1::CheckpointInfo& info : catalog.live->Live("")) {
    const std::string& run = info.id().run();
    if (run <= after || !absl::StartsWith(run, request.prefix())) continue;
    if (info.state() == v1::CHECKPOINT_STATE_ABORTED) continue;
    if (!catalog.rights->May(Verb::kRead, run)) continue;
    runs[run].set_run(run);
  }
  size_t indexed = 0;
  CKPT_RETURN_IF_ERROR(
      catalog.index->ForEachRun(request.prefix(), after, [&](const v1::RunInfo& info) {
        if (!catalog.rights->May(Verb::kRead, info.run())) return true;  // no place on the page
        runs[info.run()] = info;
        return ++indexed <= items_max;
      }));
  for (const auto& [name, info] : runs) {
    if (static_cast<uint32_t>(response.runs_size()) == items_max) {
      response.set_next_page_token(
          MakePageToken(question, response.runs(response.runs_size() - 1).run()));
      break;
    }
    *response.add_runs() = info;
  }
  return absl::OkStatus();
}

}  // namespace ckpt
