// Whose rights a call has: those of the bearer token that it carries, or those that its way to the
// daemon gives by itself. Which processes may use the unix sockets at all is allowed_peers.h's.
// Thread-safe.
#ifndef CKPT_SERVER_ACCESS_GATEKEEPER_H_
#define CKPT_SERVER_ACCESS_GATEKEEPER_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/access/rights.h"
#include "server/access/token_file.h"

namespace ckpt {

struct Caller {
  enum class Way { kUnixSocket, kTcp };
  Way way = Way::kUnixSocket;
  // The values of the call's `authorization` headers: "Bearer TOKEN".
  std::vector<absl::string_view> authorization;
};

class Gatekeeper {
 public:
  struct Settings {
    // Over all runs, for calls on the unix socket without a token; nullopt: none.
    std::optional<Verb> socket_rights = Verb::kAdmin;
    std::string token_file;  // empty: there are no tokens
    bool tcp = false;        // whether TCP is served
  };
  // INVALID_ARGUMENT: the token file.
  static absl::StatusOr<std::unique_ptr<Gatekeeper>> Open(const Settings& settings);

  // UNAUTHENTICATED: a token that nobody knows, on any way; none at all where one is needed, which
  // is over TCP where there are tokens, and on a socket that gives no rights. The text says what to
  // do.
  absl::StatusOr<std::shared_ptr<const Rights>> Admit(const Caller& caller);

 private:
  Gatekeeper() = default;
  std::unique_ptr<TokenFile> tokens_;            // null: there are none
  std::shared_ptr<const Rights> socket_rights_;  // null: none
  std::shared_ptr<const Rights> tcp_rights_;     // null: none
};

}  // namespace ckpt

#endif  // CKPT_SERVER_ACCESS_GATEKEEPER_H_
