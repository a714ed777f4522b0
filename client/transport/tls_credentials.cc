#include "client/transport/tls_credentials.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
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
    return absl::InvalidArgumentError(absl::StrCat("the file of the ", what,
                                                   " is no PEM file of that (", block,
                                                   " does not stand in it): ", path));
  }
  return pem;
}

struct Free {
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};

// Instead of OpenSSL's own, which asks whoever sits at the terminal.
int NoPassphrase(char* /*buffer*/, int /*size*/, int /*writes*/, void* /*unused*/) { return -1; }

// gRPC would print what is wrong on standard error, and say of the connection that it cannot be
// made.
absl::Status CheckPair(const TlsOptions& options, const grpc::SslCredentialsOptions& pem) {
  const auto open = [](const std::string& text) {
    return std::unique_ptr<BIO, Free>(
        BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  };
  const std::unique_ptr<X509, Free> certificate(
      PEM_read_bio_X509(open(pem.pem_cert_chain).get(), nullptr, NoPassphrase, nullptr));
  const std::unique_ptr<EVP_PKEY, Free> key(
      PEM_read_bio_PrivateKey(open(pem.pem_private_key).get(), nullptr, NoPassphrase, nullptr));
  const bool belong = certificate != nullptr && key != nullptr &&
                      X509_check_private_key(certificate.get(), key.get()) == 1;
  ERR_clear_error();  // of this thread, which is somebody else's
  if (certificate == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("the certificate is damaged: ", options.certificate_file));
  }
  if (key == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("the key is damaged, or has a passphrase: ", options.key_file));
  }
  if (!belong) {
    return absl::InvalidArgumentError(absl::StrCat(
        options.key_file, " is not the key of the certificate in ", options.certificate_file));
  }
  return absl::OkStatus();
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
  CKPT_RETURN_IF_ERROR(CheckPair(options, pem));
  if (!options.server_name.empty()) arguments.SetSslTargetNameOverride(options.server_name);
  std::shared_ptr<grpc::ChannelCredentials> credentials = grpc::SslCredentials(pem);
  return credentials;
}

}  // namespace ckpt
