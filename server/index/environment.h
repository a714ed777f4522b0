// What a test puts between the index and the machine. For the makers of one: includes RocksDB.
#ifndef CKPT_SERVER_INDEX_ENVIRONMENT_H_
#define CKPT_SERVER_INDEX_ENVIRONMENT_H_

#include <cstddef>

#include "rocksdb/env.h"

namespace ckpt {

// Must outlive the index that is opened with it.
struct IndexEnvironment {
  rocksdb::Env* env = rocksdb::Env::Default();  // files and threads
  // Rows held in memory, of all families together. Small: tables are written, and merged, often.
  size_t memtables_bytes_max = 64 << 20;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_INDEX_ENVIRONMENT_H_
