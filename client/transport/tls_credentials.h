// The channel's side of TlsOptions.
#ifndef CKPT_CLIENT_TRANSPORT_TLS_CREDENTIALS_H_
#define CKPT_CLIENT_TRANSPORT_TLS_CREDENTIALS_H_

#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <memory>

#include "absl/status/statusor.h"
#include "client/transport/tls_options.h"

namespace ckpt {

// Unencrypted where `options` are not used. INVALID_ARGUMENT: which file is missing, or is not what
// it should be. Adds to `arguments` the name to expect.
absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeChannelCredentials(
    const TlsOptions& options, grpc::ChannelArguments& arguments);

}  // namespace ckpt

#endif  // CKPT_CLIENT_TRANSPORT_TLS_CREDENTIALS_H_
