// The open restore plans: who holds them, and when they end. A plan of a session ends with
// ReleasePlan or the session; one without a session with ReleasePlan or its lease, which reading
// renews. Thread-safe. One thread ends leases and drops references (unlinking a large file takes
// time, and sessions end on their server's thread).
#ifndef CKPT_SERVER_RPC_PLAN_TABLE_H_
#define CKPT_SERVER_RPC_PLAN_TABLE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/ids.h"
#include "common/mutex.h"
#include "server/rpc/open_plan.h"
#include "server/session/session.h"

namespace ckpt {

class PlanTable {
 public:
  explicit PlanTable(size_t plans_max = 4096);
  // After the last session has ended and the last call has returned.
  ~PlanTable();

  // `session` may be null: then the lease counts. RESOURCE_EXHAUSTED: too many plans are open.
  absl::Status Add(std::shared_ptr<OpenPlan> plan, std::shared_ptr<Session> session,
                   absl::Duration lease);
  // Renews the lease. NOT_FOUND: unknown, released, or its lease has run out.
  absl::StatusOr<std::shared_ptr<OpenPlan>> Find(absl::string_view plan_id);
  // Drops the plan's references before it returns. OK whether it was there or not.
  void Release(PlanId id);
  size_t count() const;

 private:
  struct Entry {
    std::shared_ptr<OpenPlan> plan;
    std::shared_ptr<Session> session;
    uint64_t on_close = 0;
    absl::Duration lease;
    absl::Time lease_end = absl::InfiniteFuture();
  };
  void Run();
  void ReleaseLater(PlanId id);  // by the thread

  const size_t plans_max_;
  mutable Mutex mutex_;
  CondVar wake_;
  absl::flat_hash_map<PlanId, Entry> plans_ ABSL_GUARDED_BY(mutex_);
  std::vector<Entry> ended_ ABSL_GUARDED_BY(mutex_);  // for the thread to drop
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_PLAN_TABLE_H_
