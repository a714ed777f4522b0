// What happened and when, one JSON object a line, appended with one write each so that all ranks
// (and the launches after them) share a file, and a script may read it while it grows.
//   {"time":1700000000.123456,"rank":0,"event":"staged","step":10,"stall_ms":4.2}
// Thread-safe. No Torch.
#ifndef CKPT_CLIENT_EXAMPLES_EVENT_LOG_H_
#define CKPT_CLIENT_EXAMPLES_EVENT_LOG_H_

#include <initializer_list>
#include <string>
#include <utility>
#include <variant>

#include "absl/status/statusor.h"

namespace train_lm {

class EventLog {
 public:
  using Value = std::variant<int64_t, double, std::string>;
  // Appends to `path`, creating it. Errors: that of open.
  static absl::StatusOr<EventLog> Open(const std::string& path, int rank);
  EventLog(EventLog&& other) noexcept : fd_(std::exchange(other.fd_, -1)), rank_(other.rank_) {}
  ~EventLog();

  void Write(const std::string& event,
             std::initializer_list<std::pair<const char*, Value>> fields) const;

 private:
  EventLog(int fd, int rank) : fd_(fd), rank_(rank) {}
  int fd_;
  int rank_;
};

// Appends one line with a single write; a line is never torn. Errors: that of open or write.
absl::Status AppendLine(const std::string& path, const std::string& line);

}  // namespace train_lm

#endif  // CKPT_CLIENT_EXAMPLES_EVENT_LOG_H_
