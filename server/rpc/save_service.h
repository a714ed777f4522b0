// SaveService: the Save stream (save_stream.cc, one thread for each open stream) and Prepare
// (prepare.cc). The protocol's order stands in save.proto; the rules of checkpoints stand in
// staging/checkpoint_table.h.
#ifndef CKPT_SERVER_RPC_SAVE_SERVICE_H_
#define CKPT_SERVER_RPC_SAVE_SERVICE_H_

#include <cstdint>
#include <memory>

#include "ckpt/v1/save.grpc.pb.h"
#include "server/rpc/gate.h"
#include "server/rpc/save_stream.h"
#include "server/session/session.h"
#include "server/staging/checkpoint_table.h"
#include "server/staging/memory_tier.h"

namespace ckpt {

struct SaveServiceOptions {
  SessionServer* sessions = nullptr;  // null: stream transport only
  CheckpointTable* table = nullptr;
  MemoryTier* tier = nullptr;
  Gate gate{nullptr, nullptr};  // the default: every caller may save
  uint32_t streams_max = 4096;  // open Save streams; more are RESOURCE_EXHAUSTED
  absl::Duration begin_patience = kBeginPatience;
};

// Register it with ServerBuilder::RegisterService (as a grpc::Service&: `service()`). Save is a
// callback method, so that an abort ends a stream whose client is silent; its messages are raw, so
// that chunks are not copied by protobuf.
class SaveService {
 public:
  explicit SaveService(SaveServiceOptions options);
  ~SaveService();  // after the gRPC server is down; waits for its streams' threads
  grpc::Service* service();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_SAVE_SERVICE_H_
