// WatchCheckpoints: what exists, then each change.
//
//   1. subscribe: from here on no change is missed
//   2. send what exists (a change that is already in it may be sent again below: the same state
//   twice)
//   3. snapshot_end
//   4. send changes until the caller has gone
// Changes wait in a queue that holds the latest state of each checkpoint and nothing else; a reader
// that lets it grow past kPendingMax is cut off with UNAVAILABLE. A run that the caller may not
// read is watched as one is that is not there yet: nothing of it is ever sent.
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/checkpoint_id.h"
#include "common/status_macros.h"
#include "server/rpc/catalog.h"
#include "server/rpc/checkpoint_info.h"

namespace ckpt {
namespace {

constexpr size_t kPendingMax = 65536;
constexpr size_t kSnapshotBatch = 1000;
// How soon an idle watch notices that its caller has gone or the daemon stops. Five hundred of them
// at once should cost nothing to speak of.
constexpr absl::Duration kPollEvery = absl::Milliseconds(500);

class Pending {
 public:
  void Put(const v1::CheckpointInfo& info, bool deleted) {
    std::string key = info.id().SerializeAsString() + info.checkpoint_uid();
    MutexLock lock(mutex_);
    if (overflown_) return;
    const auto [it, inserted] = latest_.try_emplace(key);
    *it->second.mutable_checkpoint() = info;
    it->second.set_deleted(deleted);
    if (inserted) order_.push_back(std::move(key));
    if (order_.size() > kPendingMax) {
      overflown_ = true;
      order_.clear();
      latest_.clear();
    }
    changed_.NotifyOne();
  }

  // False when nothing came in time.
  absl::StatusOr<bool> Take(v1::WatchCheckpointsResponse& change) {
    MutexLock lock(mutex_);
    if (order_.empty() && !overflown_) changed_.WaitUntil(mutex_, absl::Now() + kPollEvery);
    if (overflown_) {
      return absl::UnavailableError(
          absl::StrCat("the reader is more than ", kPendingMax, " changes behind; watch again"));
    }
    if (order_.empty()) return false;
    const auto it = latest_.find(order_.front());
    order_.pop_front();
    change = std::move(it->second);
    latest_.erase(it);
    return true;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::deque<std::string> order_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::string, v1::WatchCheckpointsResponse> latest_ ABSL_GUARDED_BY(mutex_);
  bool overflown_ ABSL_GUARDED_BY(mutex_) = false;
};

absl::Status SendCommitted(Catalog& catalog, const std::string& run,
                           SendTo<v1::WatchCheckpointsResponse> send) {
  std::optional<uint64_t> below;
  while (true) {
    std::vector<v1::CheckpointInfo> batch;  // not sent from within the index's iteration
    CKPT_RETURN_IF_ERROR(
        catalog.index->ForEachCheckpoint(run, below, [&](const CheckpointRecord& record) {
          batch.push_back(InfoOf(record, *catalog.memory, *catalog.live, catalog.finder->damage()));
          return batch.size() < kSnapshotBatch;
        }));
    for (const v1::CheckpointInfo& info : batch) {
      v1::WatchCheckpointsResponse response;
      *response.mutable_checkpoint() = info;
      if (!send(response)) return CallerHasGone();
    }
    if (batch.size() < kSnapshotBatch) return absl::OkStatus();
    below = batch.back().id().step();
  }
}

absl::Status SendSnapshot(Catalog& catalog, const std::string& run,
                          SendTo<v1::WatchCheckpointsResponse> send) {
  std::vector<std::string> runs;
  if (run.empty()) {
    CKPT_RETURN_IF_ERROR(catalog.index->ForEachRun("", "", [&](const v1::RunInfo& info) {
      runs.push_back(info.run());
      return true;
    }));
  } else {
    runs.push_back(run);
  }
  const std::vector<v1::CheckpointInfo> live = catalog.live->Live(run);
  for (const std::string& name : runs) {
    if (!catalog.rights->May(Verb::kRead, name)) continue;
    CKPT_RETURN_IF_ERROR(SendCommitted(catalog, name, send));
  }
  for (const v1::CheckpointInfo& info : live) {
    if (!catalog.rights->May(Verb::kRead, info.id().run())) continue;
    v1::WatchCheckpointsResponse response;
    *response.mutable_checkpoint() = info;
    if (!send(response)) return CallerHasGone();
  }
  v1::WatchCheckpointsResponse end;
  end.set_snapshot_end(true);
  return send(end) ? absl::OkStatus() : CallerHasGone();
}

}  // namespace

absl::Status WatchCheckpoints(Catalog& catalog, const v1::WatchCheckpointsRequest& request,
                              Cancelled cancelled, SendTo<v1::WatchCheckpointsResponse> send) {
  if (!request.run().empty()) CKPT_RETURN_IF_ERROR(ValidateRun(request.run()));
  auto pending = std::make_shared<Pending>();
  const uint64_t number = catalog.live->Subscribe(
      [pending, run = request.run(), &rights = *catalog.rights](const v1::CheckpointInfo& info,
                                                                bool deleted) {
        const bool asked = run.empty() || info.id().run() == run;
        if (asked && rights.May(Verb::kRead, info.id().run())) pending->Put(info, deleted);
      });
  absl::Status status = SendSnapshot(catalog, request.run(), send);
  while (status.ok()) {
    if (cancelled()) status = CallerHasGone();
    v1::WatchCheckpointsResponse change;
    const absl::StatusOr<bool> taken =
        status.ok() ? pending->Take(change) : absl::StatusOr<bool>(status);
    if (!taken.ok()) {
      status = taken.status();
    } else if (*taken && !send(change)) {
      status = CallerHasGone();
    }
  }
  catalog.live->Unsubscribe(number);
  return status;
}

}  // namespace ckpt
