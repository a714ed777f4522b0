// The folders that the daemon lives in, made and checked before anything is opened in them.
#ifndef CKPT_SERVER_DAEMON_FOLDERS_H_
#define CKPT_SERVER_DAEMON_FOLDERS_H_

#include "absl/status/status.h"
#include "server/config.h"

namespace ckpt {

// Makes the folders of socket, data and memory where they are missing and checks that they can be
// written, that the memory folder is a tmpfs and that the budget fits in it; a budget that
// nobody set becomes the default, at most three quarters of the tmpfs. INVALID_ARGUMENT with the
// setting, the folder and the reason.
absl::Status PrepareFolders(Config& config);

}  // namespace ckpt

#endif  // CKPT_SERVER_DAEMON_FOLDERS_H_
