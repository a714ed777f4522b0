// Finding and mapping the stretch of a data file that a TensorView shows.
#ifndef CKPT_CLIENT_RESTORE_TENSOR_VIEW_H_
#define CKPT_CLIENT_RESTORE_TENSOR_VIEW_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "client/restore/piece_reader.h"
#include "client/restore/read_schedule.h"
#include "client/restore/restore.h"
#include "common/box.h"

namespace ckpt {

// Errors as RestorePlan::View.
absl::StatusOr<TensorView> MakeTensorView(const PlannedPieces& plan, const PieceSource& source,
                                          uint32_t leaf_number, const Box& region);

}  // namespace ckpt

#endif  // CKPT_CLIENT_RESTORE_TENSOR_VIEW_H_
