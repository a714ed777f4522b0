#include "server/observe/line_budget.h"

#include <algorithm>

namespace ckpt::observe {
namespace {

// Threads look at the clock in one order and come here in another; what is further back is a clock
// that was set back, and believed.
constexpr absl::Duration kThreadsApart = absl::Seconds(1);
constexpr char kOthers[] = "?other events";

}  // namespace

std::optional<uint64_t> LineBudget::Admit(char severity, absl::string_view event, absl::Time now) {
  std::string key(1, severity);
  key.append(event.data(), event.size());
  MutexLock lock(mutex_);
  if (buckets_.size() >= kBucketsMax && !buckets_.contains(key)) key = kOthers;
  const auto [it, inserted] = buckets_.try_emplace(std::move(key));
  Bucket& bucket = it->second;
  if (inserted || now < bucket.filled_at - kThreadsApart) {
    bucket.filled_at = now;
  } else if (now > bucket.filled_at) {
    const double seconds = absl::ToDoubleSeconds(now - bucket.filled_at);
    bucket.tokens = std::min(kLinesBurst, bucket.tokens + seconds * kLinesPerSecond);
    bucket.filled_at = now;
  }
  if (bucket.tokens < 1) {
    ++bucket.left_out;
    return std::nullopt;
  }
  --bucket.tokens;
  return std::exchange(bucket.left_out, 0);
}

std::vector<std::pair<std::string, uint64_t>> LineBudget::TakeLeftOut() {
  std::vector<std::pair<std::string, uint64_t>> told;
  MutexLock lock(mutex_);
  for (auto& [key, bucket] : buckets_) {
    if (bucket.left_out > 0) told.emplace_back(key.substr(1), std::exchange(bucket.left_out, 0));
  }
  std::sort(told.begin(), told.end());
  return told;
}

}  // namespace ckpt::observe
