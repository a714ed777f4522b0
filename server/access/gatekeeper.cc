#include "server/access/gatekeeper.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

constexpr absl::string_view kScheme = "Bearer ";
constexpr char kHowToGiveOne[] =
    "give one in $CKPTD_TOKEN, by ckptctl --token-file FILE, in ClientOptions::token, or as the "
    "call's metadata `authorization: Bearer TOKEN`";

std::shared_ptr<const Rights> OverAllRuns(const char* whose, std::optional<Verb> verb) {
  if (!verb.has_value()) return nullptr;
  auto rights = std::make_shared<Rights>(whose);
  rights->Add(*RunPattern::Parse("**"), *verb);
  return rights;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Gatekeeper>> Gatekeeper::Open(const Settings& settings) {
  std::unique_ptr<Gatekeeper> gatekeeper(new Gatekeeper);
  if (!settings.token_file.empty()) {
    CKPT_ASSIGN_OR_RETURN(gatekeeper->tokens_, TokenFile::Open(settings.token_file));
  }
  gatekeeper->socket_rights_ =
      OverAllRuns("a caller on the socket without a token", settings.socket_rights);
  // Without tokens whoever reaches the port may do everything: who reaches it is up to --listen.
  if (settings.tcp && gatekeeper->tokens_ == nullptr) {
    gatekeeper->tcp_rights_ = Rights::Everything("TCP");
  }
  return gatekeeper;
}

absl::StatusOr<std::shared_ptr<const Rights>> Gatekeeper::Admit(const Caller& caller) {
  if (caller.authorization.empty()) {
    const bool on_socket = caller.way == Caller::Way::kUnixSocket;
    const std::shared_ptr<const Rights>& rights = on_socket ? socket_rights_ : tcp_rights_;
    if (rights != nullptr) return rights;
    return absl::UnauthenticatedError(
        absl::StrCat("a token is needed ", on_socket ? "on this socket" : "over TCP", ": ",
                     kHowToGiveOne));
  }
  absl::string_view token = caller.authorization.front();
  if (caller.authorization.size() > 1 || !absl::StartsWithIgnoreCase(token, kScheme)) {
    return absl::UnauthenticatedError(
        "the call's metadata must have one `authorization`, and it must be `Bearer TOKEN`");
  }
  token.remove_prefix(kScheme.size());
  if (tokens_ == nullptr) {
    return absl::UnauthenticatedError(
        "this daemon knows no tokens: call without one (unset CKPTD_TOKEN), or start it with "
        "--token-file");
  }
  std::shared_ptr<const Rights> rights = tokens_->Find(token);
  if (rights != nullptr) return rights;
  return absl::UnauthenticatedError(
      absl::StrCat("this token is not in the daemon's --token-file: it may have been taken out; ",
                   kHowToGiveOne));
}

}  // namespace ckpt
