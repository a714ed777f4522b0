// The way into every call: whose rights the caller has, and whether they reach what the request
// names. What one may not read is answered as if it were not there; what one may read and not
// change is PERMISSION_DENIED. health and reflection are open to everybody.
#ifndef CKPT_SERVER_RPC_GATE_H_
#define CKPT_SERVER_RPC_GATE_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "grpcpp/server_context.h"
#include "server/access/gatekeeper.h"
#include "server/rpc/checkpoint_finder.h"

namespace ckpt {

// Immutable, copied freely, owns nothing; thread-safe.
class Gate {
 public:
  using RightsOf = absl::StatusOr<std::shared_ptr<const Rights>>;
  // `gatekeeper` null: every caller may do everything (tests).
  Gate(Gatekeeper* gatekeeper, CheckpointFinder* finder)
      : gatekeeper_(gatekeeper), finder_(finder) {}

  // Whose rights they are, whatever they reach: for calls that show each caller what he may see,
  // and for those that name nothing but an unguessable number. UNAUTHENTICATED.
  RightsOf Enter(const grpc::ServerContextBase& context) const;
  // For calls on one run. INVALID_ARGUMENT: its name; NOT_FOUND: it may not be read, with the text
  // for a run that is not there; PERMISSION_DENIED.
  RightsOf Enter(const grpc::ServerContextBase& context, Verb verb, const std::string& run) const;
  // For calls on the daemon. PERMISSION_DENIED.
  RightsOf EnterEverywhere(const grpc::ServerContextBase& context, Verb verb) const;

 private:
  Gatekeeper* gatekeeper_;
  CheckpointFinder* finder_;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_GATE_H_
