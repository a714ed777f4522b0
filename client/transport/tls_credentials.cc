#include "client/transport/tls_credentials.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

// gRPC would say no more than that a connection cannot be made.
absl::StatusOr<std::string> ReadPem(absl::string_view what, const std::string& path,
                                    absl::string_view block) {
  if (path.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "TLS needs three files: the daemon's CA, a certificate and its key; the ", what,
        " is missing"));
  }
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  const std::string pem{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (!file || pem.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the file of the ", what, " cannot be read, or is empty: ", path,
                     errno != 0 ? absl::StrCat(": ", std::strerror(errno)) : ""));
  }
  if (!absl::StrContains(pem, block)) {
    return absl::InvalidArgumentError(absl::StrCat("the file of the ", what, " is no PEM file of that (",
                                                   block, " does not stand in it): ", path));
  }
  return pem;
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeChannelCredentials(
    const TlsOptions& options, grpc::ChannelArguments& arguments) {
  if (!options.used()) return grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions pem;
  CKPT_ASSIGN_OR_RETURN(pem.pem_root_certs, ReadPem("CA", options.ca_file, "BEGIN CERTIFICATE"));
  CKPT_ASSIGN_OR_RETURN(pem.pem_cert_chain,
                        ReadPem("certificate", options.certificate_file, "BEGIN CERTIFICATE"));
  CKPT_ASSIGN_OR_RETURN(pem.pem_private_key, ReadPem("key", options.key_file, "PRIVATE KEY"));
  if (!options.server_name.empty()) arguments.SetSslTargetNameOverride(options.server_name);
  std::shared_ptr<grpc::ChannelCredentials> credentials = grpc::SslCredentials(pem);
  return credentials;
}

}  // namespace ckpt
