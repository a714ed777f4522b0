// One connected client of the descriptor socket: framing, sending with descriptors, what was
// revoked and who wants to know of its end. The server's thread reads; any thread sends.
#ifndef CKPT_SERVER_SESSION_SESSION_CONNECTION_H_
#define CKPT_SERVER_SESSION_SESSION_CONNECTION_H_

#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "common/mutex.h"
#include "server/session/session.h"

namespace ckpt {

// Lock order: send_mutex_ and mutex_ are never held together; callbacks run without either.
class SessionConnection : public Session {
 public:
  // Takes the descriptor.
  SessionConnection(int descriptor, PeerCredentials peer, absl::Duration send_patience);
  ~SessionConnection() override;

  SessionToken token() const override { return token_; }
  PeerCredentials peer() const override { return peer_; }
  bool closed() const override;
  absl::Status Grant(FileId id, v1::FileAccess access, uint64_t length, int descriptor) override;
  void Revoke(FileId id, absl::AnyInvocable<void()> unmapped) override;
  uint64_t OnClose(absl::AnyInvocable<void()> closed) override;
  void ForgetOnClose(uint64_t number) override;
  void DropOnClose(uint64_t number) override;

  // --- the server's thread
  int descriptor() const { return descriptor_; }
  bool greeted() const { return greeted_; }
  absl::Time connected_at() const { return connected_at_; }
  // Reads what is there and acts on whole frames. An error: the session must end (the peer is gone
  // or broke the protocol).
  absl::Status Receive(const std::string& daemon_version, const std::string& daemon_instance);
  // Sends `refused`, as far as the socket takes it at once.
  void Refuse(const std::string& reason);
  // Runs the callbacks of closing and of revocations; nothing is sent afterwards.
  void End();

 private:
  absl::Status HandleFrame(const v1::ClientFrame& frame, const std::string& daemon_version,
                           const std::string& daemon_instance);
  // `attached` < 0: no descriptor. Waits at most `patience` for a client that does not read.
  absl::Status Send(const v1::DaemonFrame& frame, int attached, absl::Duration patience);
  absl::Status SendLocked(const std::string& bytes, int attached, absl::Duration patience)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(send_mutex_);

  const SessionToken token_ = SessionToken::Random();
  const PeerCredentials peer_;
  const absl::Duration send_patience_;
  const absl::Time connected_at_ = absl::Now();
  const int descriptor_;  // closed by the destructor, shut down by End
  bool greeted_ = false;  // server's thread only
  std::string received_;  // server's thread only; at most one frame and one read

  Mutex send_mutex_;
  bool broken_ ABSL_GUARDED_BY(send_mutex_) = false;

  mutable Mutex mutex_;
  CondVar callbacks_done_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool running_callbacks_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread::id callback_thread_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_number_ ABSL_GUARDED_BY(mutex_) = 1;
  std::map<uint64_t, absl::AnyInvocable<void()>> on_close_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<FileId, std::vector<absl::AnyInvocable<void()>>> revoked_
      ABSL_GUARDED_BY(mutex_);
};

}  // namespace ckpt

#endif  // CKPT_SERVER_SESSION_SESSION_CONNECTION_H_
