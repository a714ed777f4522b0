// Reading past the page cache: what the device holds, and what others have in the cache stays
// there.
#ifndef CKPT_SERVER_STORAGE_DIRECT_READ_H_
#define CKPT_SERVER_STORAGE_DIRECT_READ_H_

#include <memory>

#include "server/storage/file_system.h"

namespace ckpt {

// Reads `file` with direct I/O; where that cannot be had (tmpfs, no descriptor), as before. Takes
// 2 MiB for each call of ReadAt.
std::unique_ptr<ReadableFile> PastTheCache(std::unique_ptr<ReadableFile> file);

}  // namespace ckpt

#endif  // CKPT_SERVER_STORAGE_DIRECT_READ_H_
