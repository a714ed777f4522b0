// What happens when the process forks (data loaders do). The child's copy of the client must not
// work: gRPC's threads do not exist there, and its sockets are shared with the parent. So a handler
// that runs in the child closes the child's copies of our descriptors - the daemon must see the
// parent's death even if a child lives on - and advances a generation. Whoever was made in an older
// generation refuses to work and is leaked, never destroyed: its locks may be held by threads that
// are not there.
#ifndef CKPT_CLIENT_TRANSPORT_FORK_GUARD_H_
#define CKPT_CLIENT_TRANSPORT_FORK_GUARD_H_

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/status.h"

namespace ckpt {

// Remembers in which process it was made. Cheap; thread-safe.
class ForkMark {
 public:
  ForkMark();
  bool forked() const;  // this process is a child of the one that made the mark
  // FAILED_PRECONDITION in a child.
  absl::Status Check() const;
  // FAILED_PRECONDITION in a child of any process that had used the client.
  static absl::Status CheckProcess();

 private:
  uint64_t generation_;
};

// An owned descriptor that is closed in forked children.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int number);
  ~Descriptor() { Reset(); }
  Descriptor(Descriptor&& other) noexcept
      : number_(std::exchange(other.number_, -1)), mark_(other.mark_) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    if (this != &other) {
      Reset();
      number_ = std::exchange(other.number_, -1);
      mark_ = other.mark_;
    }
    return *this;
  }
  int number() const { return number_; }
  bool valid() const { return number_ >= 0; }
  void Reset();

 private:
  int number_ = -1;
  ForkMark mark_;
};

// Deleter for whatever must be leaked in a forked child.
struct LeakInChild {
  ForkMark mark;
  template <typename T>
  void operator()(T* object) const {
    if (!mark.forked()) delete object;
  }
};

template <typename T>
std::shared_ptr<T> SharedUnlessForked(T* object) {
  return std::shared_ptr<T>(object, LeakInChild());
}

}  // namespace ckpt

#endif  // CKPT_CLIENT_TRANSPORT_FORK_GUARD_H_
