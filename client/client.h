// The core client library: a connection of one process (one rank) to the daemon of its node. Knows
// bytes, boxes, dtypes and plain values; nothing of Torch or CUDA. It lives in other people's
// processes: no global state, no logging but the callback, no exceptions.
//
//   auto client = ckpt::Client::Connect({.socket = "/run/ckptd/ckptd.sock"});
//   auto save = (*client)->Save(id, std::move(part), {});     // returns at once
//   save->AwaitStaged();                                      // now the tensors may change
//   auto plan = (*client)->PlanRestore(selector, {});
//   plan->Read(targets);
//
// Thread-safe. After a fork the child's copy refuses every call with FAILED_PRECONDITION and closes
// its copy of the session socket; the parent goes on undisturbed.
#ifndef CKPT_CLIENT_CLIENT_H_
#define CKPT_CLIENT_CLIENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ckpt/v1/checkpoint.pb.h"
#include "client/restore/restore.h"
#include "client/save/save.h"
#include "client/state/part.h"
#include "client/transport/tls_options.h"
#include "common/checkpoint_id.h"

namespace ckpt {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

struct ClientOptions {
  // Path of the daemon's unix socket; empty, and no address: $CKPTD_SOCKET, then
  // /run/ckptd/ckptd.sock.
  std::string socket;
  // host:port instead of a socket: stream transport only, no shared memory. Both: INVALID_ARGUMENT.
  std::string address;
  TlsOptions tls;    // for an address; unused: unencrypted
  // Bearer token for daemons that ask for one (ckptd --token-file), sent with every call; empty:
  // $CKPTD_TOKEN, if that is set. It must reach nobody else: over TCP use TLS.
  std::string token;
  std::string name;  // shown in the daemon's logs
  absl::Duration connect_timeout = absl::Seconds(10);
  std::function<void(LogLevel, absl::string_view)> log;  // may be called from any thread
};

class Client {
 public:
  // UNAVAILABLE: nobody listens there (says where it looked and how to start the daemon);
  // PERMISSION_DENIED: the socket's mode, or the daemon does not serve this user; INVALID_ARGUMENT:
  // socket and address, a path that is too long, a TLS file that is missing or none, or a token
  // with other than printable characters. Whether the token is known is found out by the first
  // call: UNAUTHENTICATED says what to do. Blocking. Cost: one round trip over the session's
  // socket, a thread that listens there, and a gRPC channel; with an address the channel alone. A
  // daemon that does not listen yet is waited for up to connect_timeout.
  static absl::StatusOr<std::unique_ptr<Client>> Connect(ClientOptions options);
  virtual ~Client() = default;  // cancels saves that are not staged; what is staged is the daemon's

  // Allocates and maps staging for parts of this size, so that the first save is as fast as the
  // tenth. `files`: how many such parts may be under way at once, 1 to 16; two let one be persisted
  // while the next is copied. OK with fewer where the budget has room for some. Does nothing with a
  // remote daemon. Blocking. INVALID_ARGUMENT: part_bytes (0, or too large) or files.
  // RESOURCE_EXHAUSTED: the memory budget has no room for a single one: later. UNAVAILABLE: no
  // daemon, or it is draining; UNAUTHENTICATED: the session ended meanwhile: both again. Cost: the
  // kernel clears so many pages, once; nothing where they are there.
  virtual absl::Status Prepare(uint64_t part_bytes, int files = 2) = 0;
  // The same for parts like this one, whose layout is made here and kept for the saves to come. No
  // byte of it is read. INVALID_ARGUMENT names the leaf.
  virtual absl::Status Prepare(const Part& part, int files = 2) = 0;

  // Starts saving this rank's part of checkpoint `id`; never blocks on disk or on memory of the
  // daemon. The bytes that `part` points at must stay as they are until AwaitStaged returns; values
  // are copied before Save returns. Errors of the arguments come back at once (INVALID_ARGUMENT),
  // and so does RESOURCE_EXHAUSTED where this process gets no more threads; all others come on the
  // handle. Cost until it returns: the leaves are compared with those of an earlier save, and
  // where none was alike a layout is made of them (a microsecond or so for each). Then, behind the
  // call, one copy of the bytes.
  virtual absl::StatusOr<SaveHandle> Save(const CheckpointId& id, Part part,
                                          const SaveOptions& options) = 0;

  // Blocking. Errors as RestoreService.PlanRestore. Cost: one call; time and memory in proportion
  // to the leaves, pieces and blocks that the selection takes, whatever else the checkpoint holds,
  // and to the names between the first and the last that a glob can match. No tensor is read.
  virtual absl::StatusOr<std::unique_ptr<RestorePlan>> PlanRestore(
      const v1::Selector& selector, const RestoreOptions& options) = 0;

  // A dry run: how much PlanRestore and reading all of the plan would move, and from which tier.
  // Nothing is kept open, no file is touched, no leaf is sent. Blocking; errors as PlanRestore, and
  // UNIMPLEMENTED from a daemon that is too old to say. Cost: the daemon's share of PlanRestore.
  virtual absl::StatusOr<v1::PlanSummary> EstimateRestore(const v1::Selector& selector,
                                                          const RestoreOptions& options) = 0;

  // Both: blocking, one call, a row of the index. Errors as CatalogService.WaitCheckpoint and
  // GetCheckpoint. Wait returns as soon as the checkpoint has reached `state` or a later one;
  // DEADLINE_EXCEEDED after `timeout`, which may be infinite. An id without incarnation: the
  // greatest of that step.
  virtual absl::StatusOr<v1::CheckpointInfo> Wait(const CheckpointId& id, v1::CheckpointState state,
                                                  absl::Duration timeout) = 0;
  virtual absl::StatusOr<v1::CheckpointInfo> GetCheckpoint(const v1::Selector& selector) = 0;
};

}  // namespace ckpt

#endif  // CKPT_CLIENT_CLIENT_H_
