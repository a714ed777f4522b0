// gRPC's side of the TCP port's TLS: callers must show a certificate of the client CA; each new
// connection gets the files as they are then (tls_files.h), those that are there go on. TLS 1.2 at
// least, which is gRPC's own bound.
//
// gRPC's watcher of certificate files takes key and certificate as it finds them: between the
// moments at which the two are replaced it would serve nobody. Here gRPC asks for them at each
// connection.
#ifndef CKPT_SERVER_DAEMON_TLS_CREDENTIALS_H_
#define CKPT_SERVER_DAEMON_TLS_CREDENTIALS_H_

#include <memory>

#include "grpcpp/security/server_credentials.h"
#include "server/daemon/tls_files.h"

namespace ckpt {

// Must outlive the server that it is given to.
std::shared_ptr<grpc::ServerCredentials> MakeTlsCredentials(std::shared_ptr<TlsFiles> files);

}  // namespace ckpt

#endif  // CKPT_SERVER_DAEMON_TLS_CREDENTIALS_H_
