// ReadPieces: ranges of a plan's pieces as chunks of bytes, in the order asked.
#include <algorithm>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/limits.h"
#include "common/status_macros.h"
#include "server/rpc/restore.h"

namespace ckpt {
namespace {

absl::Status CheckRanges(const OpenPlan& plan, const v1::ReadPiecesRequest& request) {
  for (int i = 0; i < request.ranges_size(); ++i) {
    const v1::PieceRange& range = request.ranges(i);
    if (range.piece_number() >= plan.pieces().size()) {
      return absl::InvalidArgumentError(absl::StrCat("range ", i, ": the plan has ",
                                                     plan.pieces().size(), " pieces, not number ",
                                                     range.piece_number()));
    }
    const uint64_t length = plan.pieces()[range.piece_number()].length;
    if (range.offset() > length || range.length() > length - range.offset()) {
      return absl::InvalidArgumentError(absl::StrCat("range ", i, ": offset ", range.offset(),
                                                     " and length ", range.length(),
                                                     " reach past the piece's ", length, " bytes"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadPieces(Restore& restore, const v1::ReadPiecesRequest& request, Cancelled cancelled,
                        SendTo<v1::ReadPiecesResponse> send) {
  CKPT_ASSIGN_OR_RETURN(const std::shared_ptr<OpenPlan> plan,
                        restore.plans->Find(request.plan_id()));
  CKPT_RETURN_IF_ERROR(CheckRanges(*plan, request));
  v1::ReadPiecesResponse response;
  uint64_t since_renewed = 0;
  for (int i = 0; i < request.ranges_size(); ++i) {
    const v1::PieceRange& range = request.ranges(i);
    const OpenPlan::Piece& piece = plan->pieces()[range.piece_number()];
    response.set_range(static_cast<uint32_t>(i));
    for (uint64_t done = 0; done < range.length();) {
      const size_t bytes = std::min<uint64_t>(kChunkBytesMax, range.length() - done);
      response.set_offset(range.offset() + done);
      std::string& data = *response.mutable_data();
      data.resize(bytes);
      CKPT_RETURN_IF_ERROR(plan->Read(piece, range.offset() + done, data.data(), bytes));
      response.set_crc32c(Crc32c(data));
      if (cancelled() || !send(response)) return CallerHasGone();
      done += bytes;
      since_renewed += bytes;
      if (since_renewed >= (uint64_t{256} << 20)) {
        // A long read keeps its plan: released meanwhile, its files stay with us to the end.
        restore.plans->Find(request.plan_id()).status().IgnoreError();
        since_renewed = 0;
      }
    }
  }
  restore.plans->Find(request.plan_id()).status().IgnoreError();
  return absl::OkStatus();
}

}  // namespace ckpt
