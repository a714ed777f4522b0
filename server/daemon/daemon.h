// The daemon as a whole: takes its locks, opens its rooms in the right order, serves, and shuts
// down in the opposite order. Everything that runs belongs to this object.
#ifndef CKPT_SERVER_DAEMON_DAEMON_H_
#define CKPT_SERVER_DAEMON_DAEMON_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "server/config.h"

namespace ckpt {

class Daemon {
 public:
  // Returns when it serves: recovery and adoption are done. INVALID_ARGUMENT: a setting is wrong;
  // FAILED_PRECONDITION: another daemon has the socket, the data folder or the memory folder (names
  // its pid), or the data folder's format is newer; otherwise why it could not start.
  // `broken` is called where it can no longer keep its word - its index takes no more writes - and
  // must end the process: the next start opens the index again, and finds everything. Called from
  // any thread, after it was logged; not before Start has returned, where this is an error of
  // Start.
  static absl::StatusOr<std::unique_ptr<Daemon>> Start(Config config,
                                                       std::function<void()> broken = nullptr);
  // Ends what still runs; waits for parts that are being written.
  virtual ~Daemon() = default;

  // Stops admitting saves, waits until what is staged is durable (at most drain_deadline), ends all
  // calls and sessions. Returns the number of parts that are not durable: they stay in the memory
  // folder, and the next daemon adopts them. Once.
  virtual uint32_t Stop() = 0;

  // The TCP port that --listen was given, or chosen for port 0; 0 where there is none.
  virtual int tcp_port() const = 0;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_DAEMON_DAEMON_H_
