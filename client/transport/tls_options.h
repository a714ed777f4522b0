// How a caller over TCP shows who it is and knows whom it speaks to.
#ifndef CKPT_CLIENT_TRANSPORT_TLS_OPTIONS_H_
#define CKPT_CLIENT_TRANSPORT_TLS_OPTIONS_H_

#include <string>

namespace ckpt {

// PEM files, read once, when the connection is made. All three, or none: unencrypted.
struct TlsOptions {
  std::string ca_file;           // who signed the daemon's certificate
  std::string certificate_file;  // ours, with its chain; the daemon's --tls-client-ca signed it
  std::string key_file;
  // The name that the daemon's certificate must bear; empty: the address's host.
  std::string server_name;

  bool used() const {
    return !ca_file.empty() || !certificate_file.empty() || !key_file.empty() ||
           !server_name.empty();
  }
};

}  // namespace ckpt

#endif  // CKPT_CLIENT_TRANSPORT_TLS_OPTIONS_H_
