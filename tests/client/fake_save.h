// The daemon's side of the Save protocol, strict about its order, keeping what arrives in memory.
#ifndef CKPT_TESTS_CLIENT_FAKE_SAVE_H_
#define CKPT_TESTS_CLIENT_FAKE_SAVE_H_

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "common/layout.h"
#include "tests/client/fake_daemon.h"

namespace ckpt::testing {

class FakeSave {
 public:
  explicit FakeSave(FakeDaemon* daemon);  // becomes its on_save
  ~FakeSave();

  // Set before use.
  uint64_t ring_bytes = 0;                        // staging files are no larger than this
  uint64_t break_stream_at = 0;                   // UNAVAILABLE, once, at this many bytes
  bool break_after_finish = false;                // UNAVAILABLE, once, when Finish has come
  std::function<grpc::Status()> before_accepted;  // an error ends the save
  std::function<grpc::Status()> before_finish;    // called when the first byte or Progress is there
  std::function<grpc::Status(grpc::ServerContext*)> before_staged;
  bool grant_after_accepted = false;

  struct Received {
    v1::Begin begin;
    std::shared_ptr<const PartLayout> layout;
    v1::Values values;
    std::string bytes;
    int progress_messages = 0;
    int data_messages = 0;
  };
  std::vector<Received> received();  // staged parts, in order
  std::vector<v1::Begin> begins();   // of all attempts
  int plans_asked();
  int grants();
  FileId last_file();

 private:
  struct File {
    FileId id;
    int descriptor = -1;
    uint64_t length = 0;
  };
  grpc::Status Run(SaveStreamServer* stream, grpc::ServerContext* context);
  grpc::Status TakePlan(SaveStreamServer* stream, const v1::Begin& begin, Received& part);
  grpc::Status TakeValues(SaveStreamServer* stream, v1::SaveRequest* request, Received& part);
  grpc::Status TakeShared(SaveStreamServer* stream, v1::SaveRequest* request, const File& file,
                          Received& part);
  grpc::Status TakeStream(SaveStreamServer* stream, v1::SaveRequest* request, Received& part);
  File Staging(uint64_t bytes, bool* granted_before);

  FakeDaemon* const daemon_;
  Mutex mutex_;
  std::map<std::string, std::shared_ptr<const PartLayout>> layouts_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::string> unfinished_ ABSL_GUARDED_BY(mutex_);  // by request id
  std::set<std::string> finished_ ABSL_GUARDED_BY(mutex_);                 // request ids
  std::map<std::string, File> files_ ABSL_GUARDED_BY(mutex_);              // by session token
  std::vector<Received> received_ ABSL_GUARDED_BY(mutex_);
  std::vector<v1::Begin> begins_ ABSL_GUARDED_BY(mutex_);
  int plans_asked_ ABSL_GUARDED_BY(mutex_) = 0;
  int grants_ ABSL_GUARDED_BY(mutex_) = 0;
  FileId last_file_ ABSL_GUARDED_BY(mutex_);
  bool broken_once_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace ckpt::testing

#endif  // CKPT_TESTS_CLIENT_FAKE_SAVE_H_
