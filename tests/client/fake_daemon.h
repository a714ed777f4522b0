// An in-process stand-in for ckptd: real gRPC on a real unix socket, a real session socket, and
// behaviour that a test sets. For what the real daemon does only by accident: breaking streams,
// revoking at the wrong moment, sending nonsense.
#ifndef CKPT_TESTS_CLIENT_FAKE_DAEMON_H_
#define CKPT_TESTS_CLIENT_FAKE_DAEMON_H_

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "ckpt/v1/catalog.grpc.pb.h"
#include "ckpt/v1/restore.grpc.pb.h"
#include "ckpt/v1/save.grpc.pb.h"
#include "ckpt/v1/session.pb.h"
#include "common/ids.h"
#include "common/mutex.h"

namespace ckpt::testing {

using SaveStreamServer = grpc::ServerReaderWriter<v1::SaveResponse, v1::SaveRequest>;

class FakeDaemon {
 public:
  FakeDaemon();
  ~FakeDaemon();

  const std::string& socket() const { return socket_; }
  void Start();
  void Stop();  // all sessions end, all calls are cancelled, both sockets go

  // Set before use; called from gRPC's threads.
  std::function<grpc::Status(SaveStreamServer*, grpc::ServerContext*)> on_save;
  std::function<grpc::Status(const v1::PrepareRequest&, v1::PrepareResponse*)> on_prepare;
  std::function<grpc::Status(const v1::PlanRestoreRequest&,
                             grpc::ServerWriter<v1::PlanRestoreResponse>*)>
      on_plan;
  std::function<grpc::Status(const v1::ReadPiecesRequest&,
                             grpc::ServerWriter<v1::ReadPiecesResponse>*)>
      on_read_pieces;
  std::function<grpc::Status(const v1::WaitCheckpointRequest&, v1::WaitCheckpointResponse*,
                             grpc::ServerContext*)>
      on_wait;
  std::string refuse;  // a session is refused with this reason

  // To the newest session. False: it is gone.
  bool Grant(FileId id, v1::FileAccess access, uint64_t length, int descriptor);
  bool Revoke(FileId id);
  bool SendBytes(const std::string& bytes);  // as they stand
  void CloseSessions();
  std::string token();  // of the newest session
  // Waits until it has arrived; false after 10 s.
  bool AwaitUnmapped(FileId id);
  bool HasUnmapped(FileId id);
  bool AwaitSessionEnd(int ended);  // so many sessions have ended
  int sessions_opened();
  std::vector<std::string> released_plans();

 private:
  class SaveFake;
  class RestoreFake;
  class CatalogFake;
  void Accept();
  void Serve(int socket);
  bool SendFrame(const v1::DaemonFrame& frame, int descriptor);

  std::string folder_;
  std::string socket_;
  std::unique_ptr<SaveFake> save_;
  std::unique_ptr<RestoreFake> restore_;
  std::unique_ptr<CatalogFake> catalog_;
  std::unique_ptr<grpc::Server> server_;
  int listener_ = -1;
  std::thread acceptor_;

  Mutex mutex_;
  CondVar changed_;
  std::vector<int> sockets_ ABSL_GUARDED_BY(mutex_);  // -1 once ended
  std::vector<std::thread> threads_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> tokens_ ABSL_GUARDED_BY(mutex_);
  std::vector<FileId> unmapped_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> released_ ABSL_GUARDED_BY(mutex_);
  int ended_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace ckpt::testing

#endif  // CKPT_TESTS_CLIENT_FAKE_DAEMON_H_
