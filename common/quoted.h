// A name as it stands in an error text: in quotes, unprintable bytes escaped, long ones shortened.
#ifndef CKPT_COMMON_QUOTED_H_
#define CKPT_COMMON_QUOTED_H_

#include <string>

#include "absl/strings/string_view.h"

namespace ckpt {

// Valid UTF-8 and printable, whatever comes in; at most about 4 * 120 bytes.
std::string Quoted(absl::string_view name);

}  // namespace ckpt

#endif  // CKPT_COMMON_QUOTED_H_
