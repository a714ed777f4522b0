// The one place where an absl::Status becomes a gRPC status.
#ifndef CKPT_SERVER_RPC_GRPC_STATUS_H_
#define CKPT_SERVER_RPC_GRPC_STATUS_H_

#include "absl/status/status.h"
#include "grpcpp/support/status.h"

namespace ckpt {

// The same code; the text as UTF-8, at most LIMIT_ERROR_BYTES_MAX bytes (gRPC loses an error above
// 8 KiB), ending in " [N bytes cut]" where it was longer. Bytes that are no printable text are
// escaped.
grpc::Status ToGrpcStatus(const absl::Status& status);

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_GRPC_STATUS_H_
