#include "client/save/save_responses.h"

#include <algorithm>

namespace ckpt {

void SaveResponses::ReadAll() {
  v1::SaveResponse response;
  while (stream_->Read(&response)) {
    MutexLock lock(mutex_);
    switch (response.kind_case()) {
      case v1::SaveResponse::kNeedPlan:
        need_plan_ = true;
        break;
      case v1::SaveResponse::kAccepted:
        has_accepted_ = true;
        accepted_ = response.accepted();
        credit_ = std::max(credit_, accepted_.credit());
        break;
      case v1::SaveResponse::kCredit:
        credit_ = std::max(credit_, response.credit().credit());
        break;
      case v1::SaveResponse::kStaged:
        staged_ = true;
        break;
      default:  // an ack: the transport's flow control is what bounds us
        continue;
    }
    changed_.NotifyAll();
  }
  ended_hint_.store(true, std::memory_order_release);
  MutexLock lock(mutex_);
  ended_ = true;
  changed_.NotifyAll();
}

void SaveResponses::AwaitEnd() {
  MutexLock lock(mutex_);
  while (!ended_) changed_.Wait(mutex_);
}

SaveResponses::Answer SaveResponses::AwaitAnswer(bool after_plan, v1::Accepted* accepted) {
  MutexLock lock(mutex_);
  while (!ended_ && !has_accepted_ && (after_plan || !need_plan_)) changed_.Wait(mutex_);
  if (has_accepted_) {
    *accepted = accepted_;
    return Answer::kAccepted;
  }
  return ended_ ? Answer::kEnded : Answer::kNeedPlan;
}

uint64_t SaveResponses::AwaitCredit(uint64_t offset) {
  MutexLock lock(mutex_);
  while (!ended_ && credit_ <= offset) changed_.Wait(mutex_);
  return ended_ ? offset : credit_;
}

bool SaveResponses::AwaitStaged() {
  MutexLock lock(mutex_);
  while (!ended_ && !staged_) changed_.Wait(mutex_);
  return staged_;
}

}  // namespace ckpt
