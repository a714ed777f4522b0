// How many lines each event may have: a bucket of kLinesBurst tokens for each text and severity,
// filled again by kLinesPerSecond. What a client can make happen at will thus fills no disk, and
// hides no other event: a line that is said once (a start, a stop, a failure) always finds its own
// bucket full. Thread-safe; never blocks for long.
#ifndef CKPT_SERVER_OBSERVE_LINE_BUDGET_H_
#define CKPT_SERVER_OBSERVE_LINE_BUDGET_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/mutex.h"

namespace ckpt::observe {

// What a start finds, or a big job's ranks do at one moment, is told line by line.
inline constexpr double kLinesBurst = 100;
// Enough to see what goes on; at 200 bytes a line less than 0.2 GB a day.
inline constexpr double kLinesPerSecond = 10;
// Texts are literals, some hundred of them. Should one ever be made of what a client says, those
// beyond this many share a bucket instead of taking memory.
inline constexpr size_t kBucketsMax = 1024;

class LineBudget {
 public:
  // Nothing: the line is left out, and counted. Else how many were left out since the last one.
  std::optional<uint64_t> Admit(char severity, absl::string_view event, absl::Time now);
  // Events, each with how many of its lines were left out and not told of yet; from here on they
  // are.
  std::vector<std::pair<std::string, uint64_t>> TakeLeftOut();

 private:
  struct Bucket {
    double tokens = kLinesBurst;
    absl::Time filled_at;
    uint64_t left_out = 0;
  };
  Mutex mutex_;
  // By severity and text.
  absl::flat_hash_map<std::string, Bucket> buckets_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ckpt::observe

#endif  // CKPT_SERVER_OBSERVE_LINE_BUDGET_H_
