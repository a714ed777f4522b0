// RocksDB on a FaultyDisk: the index's files are created, appended to, synced, renamed and removed
// by numbered operations of the same disk as the data folder's.
#ifndef CKPT_TESTS_FAKES_FAULTY_ROCKS_H_
#define CKPT_TESTS_FAKES_FAULTY_ROCKS_H_

#include <cstddef>
#include <memory>

#include "tests/fakes/faulty_disk.h"

namespace ckpt {

struct IndexEnvironment;

// For Index::Open. `disk` must outlive it, and it any index that was opened with it. With few
// `memtables_bytes_max` nearly every batch makes the background threads write a table.
std::shared_ptr<IndexEnvironment> MakeFaultyRocks(FaultyDisk* disk, size_t memtables_bytes_max);

}  // namespace ckpt

#endif  // CKPT_TESTS_FAKES_FAULTY_ROCKS_H_
