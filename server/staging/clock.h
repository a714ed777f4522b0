// Time as the staging room sees it, so that a test can own deadlines and graces.
#ifndef CKPT_SERVER_STAGING_CLOCK_H_
#define CKPT_SERVER_STAGING_CLOCK_H_

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace ckpt {

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;
};

class RealClock : public Clock {
 public:
  absl::Time Now() const override { return absl::Now(); }
  // Never null, lives for ever.
  static Clock* Get() {
    static RealClock clock;
    return &clock;
  }
};

}  // namespace ckpt

#endif  // CKPT_SERVER_STAGING_CLOCK_H_
