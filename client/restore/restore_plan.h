// Asking the daemon for a plan, and what a RestorePlan is made of.
#ifndef CKPT_CLIENT_RESTORE_RESTORE_PLAN_H_
#define CKPT_CLIENT_RESTORE_RESTORE_PLAN_H_

#include <memory>

#include "absl/status/statusor.h"
#include "client/memory/worker_threads.h"
#include "client/restore/restore.h"
#include "client/transport/connection.h"

namespace ckpt {

absl::StatusOr<std::unique_ptr<RestorePlan>> MakeRestorePlan(std::shared_ptr<Connection> connection,
                                                             std::shared_ptr<WorkerThreads> workers,
                                                             const v1::Selector& selector,
                                                             const RestoreOptions& options);

// Errors as Client::EstimateRestore.
absl::StatusOr<v1::PlanSummary> EstimateRestore(Connection& connection,
                                                const v1::Selector& selector,
                                                const RestoreOptions& options);

}  // namespace ckpt

#endif  // CKPT_CLIENT_RESTORE_RESTORE_PLAN_H_
