// An error says where it was met.
#ifndef CKPT_TESTS_CRASH_WITH_CONTEXT_H_
#define CKPT_TESTS_CRASH_WITH_CONTEXT_H_

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace ckpt::testing {

inline absl::Status With(absl::string_view context, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(context, ": ", status.message()));
}

}  // namespace ckpt::testing

#endif  // CKPT_TESTS_CRASH_WITH_CONTEXT_H_
