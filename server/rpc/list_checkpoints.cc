// ListCheckpoints: live, committed and (when asked for) aborted checkpoints of a run, newest first.
#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "common/checkpoint_id.h"
#include "common/status_macros.h"
#include "server/rpc/catalog.h"
#include "server/rpc/checkpoint_info.h"
#include "server/rpc/page_token.h"

namespace ckpt {
namespace {

// Where an item stands in the list: greater comes first.
struct Position {
  uint64_t step = 0;
  std::string incarnation;
  std::string uid;

  static Position Of(const v1::CheckpointInfo& info) {
    return {info.id().step(), info.id().incarnation(), info.checkpoint_uid()};
  }
  bool operator>(const Position& other) const {
    return std::tie(step, incarnation, uid) > std::tie(other.step, other.incarnation, other.uid);
  }
  std::string Encode() const {
    std::string bytes(reinterpret_cast<const char*>(&step), sizeof(step));
    bytes += static_cast<char>(incarnation.size());
    return bytes + incarnation + uid;
  }
  static std::optional<Position> Decode(const std::string& bytes) {
    Position position;
    if (bytes.size() < 9) return std::nullopt;
    std::memcpy(&position.step, bytes.data(), sizeof(position.step));
    const size_t length = static_cast<uint8_t>(bytes[8]);
    if (bytes.size() < 9 + length) return std::nullopt;
    position.incarnation = bytes.substr(9, length);
    position.uid = bytes.substr(9 + length);
    return position;
  }
};

class Page {
 public:
  Page(uint32_t items_max, std::optional<Position> after)
      : items_max_(items_max), after_(std::move(after)) {}

  bool Wanted(const v1::CheckpointInfo& info) const {
    return !after_ || *after_ > Position::Of(info);
  }
  void Add(v1::CheckpointInfo info) {
    if (Wanted(info) && seen_.insert(info.checkpoint_uid()).second) {
      items_.push_back(std::move(info));
    }
  }
  // The newest items, as many as the page holds. True when some are left for the next page.
  bool Take(v1::ListCheckpointsResponse& response) {
    std::sort(items_.begin(), items_.end(),
              [](const auto& a, const auto& b) { return Position::Of(a) > Position::Of(b); });
    size_t bytes = 0;
    size_t taken = 0;
    for (v1::CheckpointInfo& info : items_) {
      if (taken == items_max_ || (taken > 0 && bytes > kPageBytesMax)) break;
      bytes += info.ByteSizeLong();
      *response.add_checkpoints() = std::move(info);
      ++taken;
    }
    return taken < items_.size();
  }

 private:
  const uint32_t items_max_;
  const std::optional<Position> after_;
  absl::flat_hash_set<std::string> seen_;
  std::vector<v1::CheckpointInfo> items_;
};

}  // namespace

absl::Status ListCheckpoints(Catalog& catalog, const v1::ListCheckpointsRequest& request,
                             v1::ListCheckpointsResponse& response) {
  CKPT_RETURN_IF_ERROR(ValidateRun(request.run()));
  CKPT_ASSIGN_OR_RETURN(const uint32_t items_max, PageItems(request.page_size()));
  const std::string question =
      absl::StrCat("ListCheckpoints ", request.include_aborted(), " ", request.run());
  std::optional<Position> after;
  if (!request.page_token().empty()) {
    CKPT_ASSIGN_OR_RETURN(const std::string bytes, OpenPageToken(question, request.page_token()));
    after = Position::Decode(bytes);
    if (!after) return absl::InvalidArgumentError("page_token is damaged");
  }

  const std::vector<v1::CheckpointInfo> live = catalog.live->Live(request.run());
  Page page(items_max, after);
  // The index first: of a checkpoint that is in both, its account is the newer one.
  uint32_t committed = 0;
  std::optional<uint64_t> below;
  if (after) below = after->step + 1;
  CKPT_RETURN_IF_ERROR(
      catalog.index->ForEachCheckpoint(request.run(), below, [&](const CheckpointRecord& record) {
        v1::CheckpointInfo info =
            InfoOf(record, *catalog.memory, *catalog.live, catalog.finder->damage());
        if (page.Wanted(info)) ++committed;
        page.Add(std::move(info));
        return committed <= items_max;
      }));
  bool aborted_known = false;
  CKPT_RETURN_IF_ERROR(
      catalog.index->ForEachAborted(request.run(), [&](const v1::CheckpointInfo& info) {
        aborted_known = true;
        if (request.include_aborted()) page.Add(info);
        return request.include_aborted();
      }));
  for (const v1::CheckpointInfo& info : live) {
    if (request.include_aborted() || info.state() != v1::CHECKPOINT_STATE_ABORTED) page.Add(info);
  }
  if (live.empty() && committed == 0 && !aborted_known &&
      !catalog.finder->RunIsIndexed(request.run())) {
    return catalog.finder->RunNotFound(request.run(), *catalog.rights);
  }
  if (page.Take(response)) {
    const auto& last = response.checkpoints(response.checkpoints_size() - 1);
    response.set_next_page_token(MakePageToken(question, Position::Of(last).Encode()));
  }
  return absl::OkStatus();
}

}  // namespace ckpt
