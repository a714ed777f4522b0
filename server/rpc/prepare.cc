#include "server/rpc/prepare.h"

#include "absl/strings/str_cat.h"
#include "common/limits.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

constexpr uint32_t kFilesMax = 16;

}  // namespace

absl::StatusOr<v1::PrepareResponse> Prepare(const v1::PrepareRequest& request,
                                            SessionServer* sessions, const CheckpointTable& table,
                                            MemoryTier* tier) {
  std::shared_ptr<Session> session;
  if (sessions != nullptr) session = sessions->Find(request.session_token());
  if (session == nullptr) {
    return absl::UnauthenticatedError(
        "session_token is unknown: the session has ended, or the daemon was restarted; connect to "
        "the session socket again");
  }
  if (request.part_bytes() > kPartBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat("part_bytes is greater than ", kPartBytesMax));
  }
  if (request.files() > kFilesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("at most ", kFilesMax, " files can be prepared; got ", request.files()));
  }
  if (table.draining()) return absl::UnavailableError("the daemon is draining");
  CKPT_ASSIGN_OR_RETURN(const MemoryTier::Prepared prepared,
                        tier->Prepare(session, request.part_bytes(), request.files()));
  v1::PrepareResponse response;
  for (const FileId& id : prepared.files) response.add_file_ids(id.bytes());
  response.set_file_bytes(prepared.file_bytes);
  response.set_ring(prepared.ring);
  response.set_huge_pages(tier->usage().huge_pages);
  return response;
}

}  // namespace ckpt
