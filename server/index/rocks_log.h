// What RocksDB has to say goes to the daemon's log. Its own, a file in the index's folder, must not
// be: on a full disk the packaged library stops the process at the second line that does not fit.
#ifndef CKPT_SERVER_INDEX_ROCKS_LOG_H_
#define CKPT_SERVER_INDEX_ROCKS_LOG_H_

#include <memory>

#include "rocksdb/env.h"

namespace ckpt {

// Warnings and errors only. Thread-safe.
std::shared_ptr<rocksdb::Logger> MakeRocksLog();

}  // namespace ckpt

#endif  // CKPT_SERVER_INDEX_ROCKS_LOG_H_
