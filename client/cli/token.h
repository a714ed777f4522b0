// Where ckptctl has its bearer token from.
#ifndef CKPT_CLIENT_CLI_TOKEN_H_
#define CKPT_CLIENT_CLI_TOKEN_H_

#include <string>

#include "absl/status/statusor.h"

namespace ckpt::cli {

// `path` where one is given, a file with a token and nothing else; else $CKPTD_TOKEN; empty: none.
// NOT_FOUND; PERMISSION_DENIED: this user may not read the file, or everybody may;
// INVALID_ARGUMENT: what is there is no token.
absl::StatusOr<std::string> FindToken(const std::string& path);

}  // namespace ckpt::cli

#endif  // CKPT_CLIENT_CLI_TOKEN_H_
