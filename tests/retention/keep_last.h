// The policy that most tests use.
#ifndef CKPT_TESTS_RETENTION_KEEP_LAST_H_
#define CKPT_TESTS_RETENTION_KEEP_LAST_H_

#include "ckpt/v1/retention.pb.h"

namespace ckpt {

inline v1::RetentionPolicy KeepLast(uint64_t count) {
  v1::RetentionPolicy policy;
  policy.set_keep_last(count);
  return policy;
}

}  // namespace ckpt

#endif  // CKPT_TESTS_RETENTION_KEEP_LAST_H_
