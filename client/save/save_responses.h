// What the daemon has said on one Save stream so far. A thread of its own reads, so that acks and
// credits never fill the stream up, and an abort is noticed in the middle of a copy.
#ifndef CKPT_CLIENT_SAVE_SAVE_RESPONSES_H_
#define CKPT_CLIENT_SAVE_SAVE_RESPONSES_H_

#include <atomic>
#include <cstdint>

#include "client/transport/save_stream.h"
#include "common/mutex.h"

namespace ckpt {

// Thread-safe: one thread in ReadAll, others wait.
class SaveResponses {
 public:
  explicit SaveResponses(SaveStream* stream) : stream_(stream) {}

  void ReadAll();   // until the stream ends
  void AwaitEnd();  // until ReadAll is done
  bool ended() const { return ended_hint_.load(std::memory_order_acquire); }

  enum class Answer { kNeedPlan, kAccepted, kEnded };
  // `after_plan`: the plan was sent, so NeedPlan is no longer an answer.
  Answer AwaitAnswer(bool after_plan, v1::Accepted* accepted);
  // Waits until more than `offset` bytes may be written; the new credit, or `offset` when the
  // stream has ended.
  uint64_t AwaitCredit(uint64_t offset);
  bool AwaitStaged();  // false: the stream ended without

 private:
  SaveStream* const stream_;
  std::atomic<bool> ended_hint_{false};
  Mutex mutex_;
  CondVar changed_;
  bool need_plan_ ABSL_GUARDED_BY(mutex_) = false;
  bool has_accepted_ ABSL_GUARDED_BY(mutex_) = false;
  v1::Accepted accepted_ ABSL_GUARDED_BY(mutex_);
  uint64_t credit_ ABSL_GUARDED_BY(mutex_) = 0;
  bool staged_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace ckpt

#endif  // CKPT_CLIENT_SAVE_SAVE_RESPONSES_H_
