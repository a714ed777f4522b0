// A client of the session socket, as small as a test needs: says hello, keeps what it is granted,
// answers revocations when told to.
#ifndef CKPT_TESTS_STAGING_SESSION_CLIENT_H_
#define CKPT_TESTS_STAGING_SESSION_CLIENT_H_

#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "ckpt/v1/session.pb.h"
#include "common/ids.h"
#include "common/mutex.h"

namespace ckpt {

class SessionClient {
 public:
  // Dies (aborts the test program) when the daemon does not welcome it.
  explicit SessionClient(const std::string& socket_path);
  ~SessionClient();

  const std::string& token() const { return token_; }
  const v1::Welcome& welcome() const { return welcome_; }
  void Close();  // as if the process had died
  // Stops reading for good: what the daemon sends piles up.
  int descriptor() const { return descriptor_; }

  struct File {
    int descriptor = -1;
    uint64_t length = 0;
    char* mapping = nullptr;  // staging files are mapped
  };
  // Waits until that file was granted.
  File Granted(const std::string& file_id);
  size_t granted_count();
  // Of every revocation: unmap, close, answer. On by default.
  void AnswerRevocations(bool answer);
  std::vector<std::string> revoked();
  // Waits until that many revocations have come.
  void AwaitRevoked(size_t count);
  void AnswerNow();  // all that have not been answered

 private:
  void Run();
  void Answer(const std::string& file_id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  int descriptor_ = -1;
  std::string token_;
  v1::Welcome welcome_;
  std::thread thread_;
  Mutex mutex_;
  CondVar changed_;
  bool answer_ ABSL_GUARDED_BY(mutex_) = true;
  std::map<std::string, File> files_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> revoked_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> unanswered_ ABSL_GUARDED_BY(mutex_);
};

// Raw frames, for what no decent client sends.
int ConnectSocket(const std::string& path);
bool SendFrame(int descriptor, const std::string& payload);
// False at the end of the connection. `attached`: a descriptor that came with it, or -1.
bool ReceiveFrame(int descriptor, v1::DaemonFrame* frame, int* attached);

}  // namespace ckpt

#endif  // CKPT_TESTS_STAGING_SESSION_CLIENT_H_
