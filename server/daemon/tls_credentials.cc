#include "server/daemon/tls_credentials.h"

#include <netdb.h>
#include <sys/socket.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "grpc/grpc.h"
#include "grpc/grpc_security.h"

namespace ckpt {
namespace {

// One listening socket: which files its connections are served with. gRPC asks on the thread that
// accepts, for one connection of a socket at a time.
struct Port {
  std::shared_ptr<TlsFiles> files;
  std::shared_ptr<const TlsMaterial> served;
};

grpc_ssl_certificate_config_reload_status FetchFiles(void* user_data,
                                                     grpc_ssl_server_certificate_config** config) {
  Port& port = *static_cast<Port*>(user_data);
  std::shared_ptr<const TlsMaterial> newest = port.files->Current();
  if (newest == port.served) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
  const grpc_ssl_pem_key_cert_pair pair = {newest->private_key.c_str(),
                                           newest->certificate_chain.c_str()};
  *config = grpc_ssl_server_certificate_config_create(newest->client_ca.c_str(), &pair, 1);
  port.served = std::move(newest);
  return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
}

// The numeric addresses of HOST:PORT, each to be listened at by itself: two sockets that share one
// set of files would replace it under each other's hands. Empty: there is no such host.
std::vector<std::string> NumericAddresses(const std::string& address) {
  const size_t colon = address.rfind(':');
  std::string host = address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  std::vector<std::string> addresses;
  if (::getaddrinfo(host.c_str(), nullptr, &hints, &found) != 0) return addresses;
  for (const addrinfo* entry = found; entry != nullptr; entry = entry->ai_next) {
    char text[NI_MAXHOST];
    if (::getnameinfo(entry->ai_addr, entry->ai_addrlen, text, sizeof(text), nullptr, 0,
                      NI_NUMERICHOST) != 0) {
      continue;
    }
    const std::string numeric =
        absl::StrContains(text, ":") ? absl::StrCat("[", text, "]") : std::string(text);
    if (std::find(addresses.begin(), addresses.end(), numeric) == addresses.end()) {
      addresses.push_back(numeric);
    }
  }
  ::freeaddrinfo(found);
  return addresses;
}

class TlsCredentials final : public grpc::ServerCredentials {
 public:
  explicit TlsCredentials(std::shared_ptr<TlsFiles> files) : files_(std::move(files)) {}

  // Nobody sets one: who may do what is judged in the services.
  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {}

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    std::string port = address.substr(address.rfind(':') + 1);
    int first_bound = 0;
    for (const std::string& host : NumericAddresses(address)) {
      ports_.push_back(std::make_unique<Port>(Port{files_, nullptr}));
      grpc_server_credentials* credentials = grpc_ssl_server_credentials_create_with_options(
          grpc_ssl_server_credentials_create_options_using_config_fetcher(
              GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY, &FetchFiles,
              ports_.back().get()));
      const int bound =
          grpc_server_add_http2_port(server, absl::StrCat(host, ":", port).c_str(), credentials);
      grpc_server_credentials_release(credentials);
      if (bound == 0 || first_bound != 0) continue;
      first_bound = bound;
      port = absl::StrCat(bound);  // port 0: the others take the one that was chosen
    }
    return first_bound;
  }

  const std::shared_ptr<TlsFiles> files_;
  std::vector<std::unique_ptr<Port>> ports_;
};

}  // namespace

std::shared_ptr<grpc::ServerCredentials> MakeTlsCredentials(std::shared_ptr<TlsFiles> files) {
  return std::make_shared<TlsCredentials>(std::move(files));
}

}  // namespace ckpt
