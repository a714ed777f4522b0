// Tells calls that wait that the daemon is stopping. Thread-safe.
#ifndef CKPT_SERVER_RPC_STOP_SIGNAL_H_
#define CKPT_SERVER_RPC_STOP_SIGNAL_H_

#include <atomic>

#include "absl/status/status.h"

namespace ckpt {

class StopSignal {
 public:
  void Stop() { stopped_.store(true); }
  bool stopped() const { return stopped_.load(); }
  // A call that ended because the daemon stops says so: it may be retried with the next daemon.
  absl::Status Explain(absl::Status status) const {
    if (stopped() && absl::IsCancelled(status)) {
      return absl::UnavailableError("the daemon is stopping; try again when it is back");
    }
    return status;
  }

 private:
  std::atomic<bool> stopped_{false};
};

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_STOP_SIGNAL_H_
