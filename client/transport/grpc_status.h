// The one place where gRPC's status becomes ours. The codes are the same numbers.
#ifndef CKPT_CLIENT_TRANSPORT_GRPC_STATUS_H_
#define CKPT_CLIENT_TRANSPORT_GRPC_STATUS_H_

#include <grpcpp/client_context.h>
#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace ckpt {

absl::Status FromGrpcStatus(const grpc::Status& status);
// With what the trailers say: "retry-after-ms" is added to the text.
absl::Status FromGrpcStatus(const grpc::Status& status, const grpc::ClientContext& context);

}  // namespace ckpt

#endif  // CKPT_CLIENT_TRANSPORT_GRPC_STATUS_H_
