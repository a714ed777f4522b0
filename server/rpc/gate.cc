#include "server/rpc/gate.h"

#include "absl/strings/match.h"
#include "common/checkpoint_id.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

// What GrpcFace hands to gRPC from the unix socket is called by the name of the caller's end: none,
// a path, or an abstract name that he chose.
absl::StatusOr<Caller::Way> WayOf(absl::string_view peer) {
  for (const char* scheme : {"unix:", "unix-abstract:"}) {
    if (absl::StartsWith(peer, scheme)) return Caller::Way::kUnixSocket;
  }
  for (const char* scheme : {"ipv4:", "ipv6:"}) {
    if (absl::StartsWith(peer, scheme)) return Caller::Way::kTcp;
  }
  return absl::UnauthenticatedError("the connection is neither the unix socket's nor TCP's");
}

}  // namespace

Gate::RightsOf Gate::Enter(const grpc::ServerContextBase& context) const {
  if (gatekeeper_ == nullptr) {
    return std::shared_ptr<const Rights>(std::shared_ptr<void>(), Rights::OfTheDaemon());
  }
  Caller caller;
  CKPT_ASSIGN_OR_RETURN(caller.way, WayOf(context.peer()));
  const auto [begin, end] = context.client_metadata().equal_range("authorization");
  for (auto it = begin; it != end; ++it) {
    caller.authorization.emplace_back(it->second.data(), it->second.size());
  }
  return gatekeeper_->Admit(caller);
}

Gate::RightsOf Gate::Enter(const grpc::ServerContextBase& context, Verb verb,
                           const std::string& run) const {
  CKPT_ASSIGN_OR_RETURN(std::shared_ptr<const Rights> rights, Enter(context));
  CKPT_RETURN_IF_ERROR(ValidateRun(run));
  if (!rights->May(Verb::kRead, run)) return finder_->RunNotFound(run, *rights);
  CKPT_RETURN_IF_ERROR(rights->Require(verb, run));
  return rights;
}

Gate::RightsOf Gate::EnterEverywhere(const grpc::ServerContextBase& context, Verb verb) const {
  CKPT_ASSIGN_OR_RETURN(std::shared_ptr<const Rights> rights, Enter(context));
  CKPT_RETURN_IF_ERROR(rights->RequireEverywhere(verb));
  return rights;
}

}  // namespace ckpt
