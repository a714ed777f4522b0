// The data folder and the memory folder of a daemon that has nothing to do, read from outside.
#ifndef CKPT_TESTS_CRASH_FOLDERS_AT_REST_H_
#define CKPT_TESTS_CRASH_FOLDERS_AT_REST_H_

#include <set>
#include <string>

#include "absl/status/statusor.h"
#include "common/checkpoint_id.h"

namespace ckpt::testing {

// The checkpoints whose manifests are there. FAILED_PRECONDITION where a file lies in `objects` or
// `checkpoints` that none of them needs, one that is needed does not, or the memory folder holds a
// part that is no copy of one of theirs: not yet at rest, or a leak.
absl::StatusOr<std::set<CheckpointId>> CheckpointsAtRest(const std::string& data_folder,
                                                         const std::string& memory_folder);

}  // namespace ckpt::testing

#endif  // CKPT_TESTS_CRASH_FOLDERS_AT_REST_H_
