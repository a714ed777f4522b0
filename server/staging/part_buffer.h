// The bytes of one part on their way from its writer to the disk: a staging file, whole or as a
// ring (part offset o lies at o mod the file's length), how far the writer has come, and how far
// the persister has read. Thread-safe: one writer, one reader, anybody aborts.
#ifndef CKPT_SERVER_STAGING_PART_BUFFER_H_
#define CKPT_SERVER_STAGING_PART_BUFFER_H_

#include <cstdint>
#include <memory>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "common/mutex.h"
#include "server/persist/part_source.h"
#include "server/staging/received_bytes.h"
#include "server/staging/staging_file.h"

namespace ckpt {

class PartBuffer : public PartSource {
 public:
  // `file` is null only where part_bytes is 0. `credit_grew` is called without locks.
  PartBuffer(std::shared_ptr<StagingFile> file, uint64_t part_bytes,
             absl::AnyInvocable<void()> credit_grew);

  bool ring() const { return file_bytes_ < part_bytes_; }
  uint64_t written() const;
  uint64_t credit() const;  // part offsets below this may be written
  // The client says that offsets below `written` are there. INVALID_ARGUMENT: backwards, or beyond
  // the credit.
  absl::Status Advance(uint64_t written);
  // The next bytes of the part, from the daemon's own hands. They are written() only when their CRC
  // was found right; until then nobody reads them. INVALID_ARGUMENT: not the next, beyond the
  // credit, or a wrong CRC.
  absl::Status Write(uint64_t offset, const ReceivedBytes& bytes);
  // Ends reader and writer with this status. When it returns nobody writes to the file any more.
  void Abort(absl::Status why);

  // --- PartSource
  absl::Status Read(uint64_t offset, void* out, uint64_t bytes) override;
  void Consumed(uint64_t offset) override;

 private:
  absl::Status CheckNext(uint64_t offset, uint64_t bytes) ABSL_LOCKS_EXCLUDED(mutex_);
  uint64_t CreditLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::shared_ptr<StagingFile> file_;
  const uint64_t part_bytes_;
  const uint64_t file_bytes_;
  Mutex write_mutex_;  // held while bytes are written; before mutex_
  mutable Mutex mutex_;
  CondVar changed_;
  absl::AnyInvocable<void()> credit_grew_;  // the reader's thread alone calls it
  uint64_t written_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t consumed_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status aborted_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ckpt

#endif  // CKPT_SERVER_STAGING_PART_BUFFER_H_
