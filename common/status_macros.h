// Early return on a failed absl::Status or absl::StatusOr.
#ifndef CKPT_COMMON_STATUS_MACROS_H_
#define CKPT_COMMON_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define CKPT_RETURN_IF_ERROR(expression)                                                     \
  do {                                                                                       \
    if (::absl::Status ckpt_status_ = (expression); !ckpt_status_.ok()) return ckpt_status_; \
  } while (false)

#define CKPT_CONCAT_INNER_(a, b) a##b
#define CKPT_CONCAT_(a, b) CKPT_CONCAT_INNER_(a, b)

// CKPT_ASSIGN_OR_RETURN(auto value, F());
#define CKPT_ASSIGN_OR_RETURN(target, expression) \
  CKPT_ASSIGN_OR_RETURN_IMPL_(CKPT_CONCAT_(ckpt_result_, __LINE__), target, expression)
#define CKPT_ASSIGN_OR_RETURN_IMPL_(result, target, expression) \
  auto result = (expression);                                   \
  if (!result.ok()) return std::move(result).status();          \
  target = *std::move(result)

#endif  // CKPT_COMMON_STATUS_MACROS_H_
