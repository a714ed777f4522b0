// What one Begin says, checked as far as it can be without knowing of any other.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/limits.h"
#include "common/status_macros.h"
#include "server/staging/checkpoint_table.h"

namespace ckpt {
namespace {

constexpr absl::Duration kPatienceMax = absl::Hours(24);
constexpr absl::Duration kMemoryWaitDefault = absl::Minutes(10);
constexpr size_t kLayoutDigestBytes = 32;

absl::Status Bad(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("bad Begin: ", what));
}

absl::StatusOr<absl::Duration> ReadDuration(bool given, const google::protobuf::Duration& proto,
                                            absl::Duration fallback, absl::string_view field) {
  if (!given) return fallback;
  const absl::Duration duration = absl::Seconds(proto.seconds()) + absl::Nanoseconds(proto.nanos());
  if (duration < absl::ZeroDuration()) return Bad(absl::StrCat(field, " is negative"));
  return std::min(duration, kPatienceMax);
}

absl::Status ReadShare(const v1::Begin& begin, PartClaim& claim) {
  claim.world_size = begin.world_size();
  claim.rank = begin.rank();
  if (claim.world_size == 0 || claim.world_size > kWorldSizeMax) {
    return Bad(absl::StrCat("world_size must be 1 to ", kWorldSizeMax, "; got ", claim.world_size));
  }
  if (claim.rank >= claim.world_size) {
    return Bad(
        absl::StrCat("rank ", claim.rank, " is not below the world size of ", claim.world_size));
  }
  if (static_cast<uint32_t>(begin.share_size()) > claim.world_size) {
    return Bad("the share names more ranks than the world has");
  }
  claim.share.assign(begin.share().begin(), begin.share().end());
  if (claim.share.empty()) {
    for (uint32_t rank = 0; rank < claim.world_size; ++rank) claim.share.push_back(rank);
  }
  std::sort(claim.share.begin(), claim.share.end());
  if (std::adjacent_find(claim.share.begin(), claim.share.end()) != claim.share.end()) {
    return Bad("the share names a rank twice");
  }
  if (claim.share.back() >= claim.world_size) {
    return Bad(absl::StrCat("the share names rank ", claim.share.back(), " in a world of ",
                            claim.world_size));
  }
  if (!std::binary_search(claim.share.begin(), claim.share.end(), claim.rank)) {
    return Bad(absl::StrCat("rank ", claim.rank, " is not in the share that it names"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PartClaim> PartClaim::FromBegin(const v1::Begin& begin,
                                               std::shared_ptr<Session> session,
                                               absl::Duration join_deadline_default) {
  PartClaim claim;
  CKPT_ASSIGN_OR_RETURN(claim.id, CheckpointId::FromProto(begin.id()));
  CKPT_ASSIGN_OR_RETURN(claim.request_id, RequestId::FromBytes(begin.request_id(), "request_id"));
  CKPT_RETURN_IF_ERROR(ReadShare(begin, claim));
  if (!v1::IfExists_IsValid(begin.if_exists())) return Bad("if_exists has an unknown value");
  if (!v1::OnFull_IsValid(begin.on_full())) return Bad("on_full has an unknown value");
  claim.if_exists = begin.if_exists();
  claim.on_full = begin.on_full() == v1::ON_FULL_UNSPECIFIED ? v1::ON_FULL_WAIT : begin.on_full();
  if (begin.layout_digest().size() != kLayoutDigestBytes) {
    return Bad(absl::StrCat("layout_digest must be the ", kLayoutDigestBytes,
                            " bytes of a SHA-256; got ", begin.layout_digest().size(), " bytes"));
  }
  claim.layout_digest = begin.layout_digest();
  claim.transport = begin.transport();
  if (claim.transport != v1::TRANSPORT_SHARED_MEMORY && claim.transport != v1::TRANSPORT_STREAM) {
    return Bad("transport must be SHARED_MEMORY or STREAM");
  }
  if (claim.transport == v1::TRANSPORT_SHARED_MEMORY && session == nullptr) {
    return absl::UnauthenticatedError(
        "shared memory needs a session_token: connect to the session socket first");
  }
  claim.session = std::move(session);
  CKPT_ASSIGN_OR_RETURN(claim.join_deadline,
                        ReadDuration(begin.has_join_deadline(), begin.join_deadline(),
                                     join_deadline_default, "join_deadline"));
  if (claim.join_deadline == absl::ZeroDuration()) claim.join_deadline = join_deadline_default;
  CKPT_ASSIGN_OR_RETURN(claim.memory_wait,
                        ReadDuration(begin.has_memory_wait(), begin.memory_wait(),
                                     kMemoryWaitDefault, "memory_wait"));
  if (begin.has_resumed_step()) {
    CKPT_RETURN_IF_ERROR(ValidateStep(begin.resumed_step()));
    claim.resumed_step = begin.resumed_step();
  }
  return claim;
}

}  // namespace ckpt
