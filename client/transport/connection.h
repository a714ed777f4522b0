// The way to one daemon: a gRPC channel and, on a unix socket, the session. What the rest of the
// client sees of gRPC: it includes none of its headers.
//
// The daemon may be restarted at any time: the session breaks, and the next call that needs one
// makes a new one, with a channel of its own.
// Close ends all calls under way with CANCELLED.
#ifndef CKPT_CLIENT_TRANSPORT_CONNECTION_H_
#define CKPT_CLIENT_TRANSPORT_CONNECTION_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ckpt/v1/catalog.pb.h"
#include "ckpt/v1/restore.pb.h"
#include "ckpt/v1/save.pb.h"
#include "client/transport/save_stream.h"
#include "client/transport/session.h"
#include "client/transport/tls_options.h"

namespace ckpt {

struct ConnectionOptions {
  std::string socket;   // path; empty where address is set
  std::string address;  // host:port
  std::string token;    // sent with every call; empty: none
  std::string name;
  absl::Duration connect_timeout = absl::Seconds(10);
  TlsOptions tls;  // with an address only
};

// The bytes of one ReadPiecesResponse, as they lie in the transport's buffers.
class ChunkBytes {
 public:
  virtual ~ChunkBytes() = default;
  // Copies the next `bytes` (no more than are left) to `out`; false on a short message.
  virtual bool CopyTo(std::byte* out, size_t bytes) = 0;
};

struct PieceChunk {
  uint32_t range = 0;
  uint64_t offset = 0;
  uint32_t crc32c = 0;
  size_t bytes = 0;
  ChunkBytes* data = nullptr;
};

// Thread-safe. In a forked child every call is FAILED_PRECONDITION, and the object must be leaked.
class Connection {
 public:
  static absl::StatusOr<std::shared_ptr<Connection>> Open(const ConnectionOptions& options);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  bool remote() const;
  const ConnectionOptions& options() const;
  const ForkMark& fork_mark() const;
  // The living session, made anew where the daemon was restarted: waits up to connect_timeout for
  // it. Null for a remote connection.
  absl::StatusOr<std::shared_ptr<Session>> GetSession();
  void Close();

  absl::StatusOr<std::unique_ptr<SaveStream>> OpenSave();
  absl::StatusOr<v1::PrepareResponse> Prepare(const v1::PrepareRequest& request);
  absl::StatusOr<v1::WaitCheckpointResponse> WaitCheckpoint(
      const v1::WaitCheckpointRequest& request, absl::Time deadline);
  absl::StatusOr<v1::GetCheckpointResponse> GetCheckpoint(const v1::GetCheckpointRequest& request);
  // Calls `take` for each answer; a failed `take` ends the call with its status.
  absl::Status PlanRestore(const v1::PlanRestoreRequest& request,
                           absl::FunctionRef<absl::Status(v1::PlanRestoreResponse&)> take);
  absl::Status ReadPieces(const v1::ReadPiecesRequest& request,
                          absl::FunctionRef<absl::Status(const PieceChunk&)> take);
  // Best effort, bounded.
  void ReleasePlan(const std::string& plan_id);

 private:
  struct Impl;
  struct Wire;
  explicit Connection(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace ckpt

#endif  // CKPT_CLIENT_TRANSPORT_CONNECTION_H_
