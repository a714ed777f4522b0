// The yardstick beside a save's stall: a plain memcpy of the same bytes, tensor by tensor, into
// memory that this process has touched before.
#ifndef CKPT_CLIENT_EXAMPLES_MEMORY_COPY_H_
#define CKPT_CLIENT_EXAMPLES_MEMORY_COPY_H_

#include <cstdint>
#include <cstring>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace train_lm {

class MemoryCopy {
 public:
  // Not owned.
  void Add(const void* data, size_t bytes) {
    sources_.push_back({static_cast<const char*>(data), bytes});
    target_.resize(target_.size() + bytes, 1);
  }
  uint64_t bytes() const { return target_.size(); }
  absl::Duration Measure() {
    const absl::Time begin = absl::Now();
    char* out = target_.data();
    for (const Source& source : sources_) {
      std::memcpy(out, source.data, source.bytes);
      out += source.bytes;
    }
    return absl::Now() - begin;
  }

 private:
  struct Source {
    const char* data;
    size_t bytes;
  };
  std::vector<Source> sources_;
  std::vector<char> target_;
};

}  // namespace train_lm

#endif  // CKPT_CLIENT_EXAMPLES_MEMORY_COPY_H_
