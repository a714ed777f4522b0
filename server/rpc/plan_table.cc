#include "server/rpc/plan_table.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"

namespace ckpt {

PlanTable::PlanTable(size_t plans_max) : plans_max_(plans_max), thread_([this] { Run(); }) {}

PlanTable::~PlanTable() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    wake_.NotifyAll();
  }
  thread_.join();
}

absl::Status PlanTable::Add(std::shared_ptr<OpenPlan> plan, std::shared_ptr<Session> session,
                            absl::Duration lease) {
  const PlanId id = plan->id();
  {
    MutexLock lock(mutex_);
    if (plans_.size() >= plans_max_) {
      return absl::ResourceExhaustedError(
          absl::StrCat("more than ", plans_max_, " restore plans are open; release some"));
    }
    Entry& entry = plans_[id];
    entry.plan = std::move(plan);
    entry.session = session;
    entry.lease = lease;
    if (session == nullptr) entry.lease_end = absl::Now() + lease;
    wake_.NotifyAll();
  }
  if (session == nullptr) return absl::OkStatus();
  // Called back at once, from here, where the session has ended already.
  const uint64_t number = session->OnClose([this, id] { ReleaseLater(id); });
  MutexLock lock(mutex_);
  if (const auto it = plans_.find(id); it != plans_.end()) it->second.on_close = number;
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<OpenPlan>> PlanTable::Find(absl::string_view plan_id) {
  CKPT_ASSIGN_OR_RETURN(const PlanId id, PlanId::FromBytes(plan_id, "plan_id"));
  MutexLock lock(mutex_);
  const auto it = plans_.find(id);
  if (it == plans_.end()) {
    return absl::NotFoundError(
        "no such restore plan: it was released, or its lease ran out; ask for a new one");
  }
  Entry& entry = it->second;
  if (entry.session == nullptr) entry.lease_end = absl::Now() + entry.lease;
  return entry.plan;
}

void PlanTable::Release(PlanId id) {
  Entry entry;
  {
    MutexLock lock(mutex_);
    const auto it = plans_.find(id);
    if (it == plans_.end()) return;
    entry = std::move(it->second);
    plans_.erase(it);
  }
  if (entry.session != nullptr && entry.on_close != 0) {
    entry.session->ForgetOnClose(entry.on_close);
  }
}

void PlanTable::ReleaseLater(PlanId id) {
  MutexLock lock(mutex_);
  const auto it = plans_.find(id);
  if (it == plans_.end()) return;
  ended_.push_back(std::move(it->second));
  plans_.erase(it);
  wake_.NotifyAll();
}

size_t PlanTable::count() const {
  MutexLock lock(mutex_);
  return plans_.size();
}

void PlanTable::Run() {
  while (true) {
    std::vector<Entry> ended;
    bool stopping = false;
    {
      MutexLock lock(mutex_);
      absl::Time next = absl::InfiniteFuture();
      const absl::Time now = absl::Now();
      for (auto it = plans_.begin(); it != plans_.end();) {
        if (stopping_ || it->second.lease_end <= now) {
          ended_.push_back(std::move(it->second));
          plans_.erase(it++);
        } else {
          next = std::min(next, it->second.lease_end);
          ++it;
        }
      }
      if (ended_.empty() && !stopping_) wake_.WaitUntil(mutex_, next);
      ended.swap(ended_);
      stopping = stopping_ && plans_.empty();
    }
    for (Entry& entry : ended) {
      if (entry.session != nullptr && entry.on_close != 0) {
        entry.session->ForgetOnClose(entry.on_close);
      }
      entry.plan.reset();
    }
    if (stopping) return;
  }
}

}  // namespace ckpt
