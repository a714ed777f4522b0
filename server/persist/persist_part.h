// One part from staging to disk. The numbered protocol stands in persist_part.cc.
#ifndef CKPT_SERVER_PERSIST_PERSIST_PART_H_
#define CKPT_SERVER_PERSIST_PERSIST_PART_H_

#include "absl/status/statusor.h"
#include "server/persist/persister.h"
#include "server/persist/prepared_commits.h"
#include "server/persist/reservation.h"
#include "server/persist/writer_pool.h"

namespace ckpt {

// What all parts share. Not owned.
struct PersistTools {
  DataFolder* folder = nullptr;
  WriteBuffers* buffers = nullptr;
  WriterPool* pool = nullptr;
  Reservation* reservation = nullptr;
  PreparedCommits* prepared = nullptr;
  bool hash_blocks = true;  // PersistOptions::hash_blocks
};

// Blocking, on the part's own thread. On failure nothing of the part is left on disk.
// RESOURCE_EXHAUSTED: the disk is full; DATA_LOSS: staging could not be read; ABORTED: the part was
// aborted meanwhile; else INTERNAL (a write or a sync failed).
absl::StatusOr<DurablePart> PersistPart(const PersistTools& tools, const PartToPersist& part);

}  // namespace ckpt

#endif  // CKPT_SERVER_PERSIST_PERSIST_PART_H_
