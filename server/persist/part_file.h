// One file of a part while it is written: its name, and the stream of bytes (header, then data) cut
// into whole buffers that go to the writers. Used by one thread.
//
// Buffers cover file ranges that begin at multiples of the buffer size, so that every write is
// aligned; the last one is padded with zeros to 4096 bytes and the file cut to its true length
// afterwards.
#ifndef CKPT_SERVER_PERSIST_PART_FILE_H_
#define CKPT_SERVER_PERSIST_PART_FILE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "common/ids.h"
#include "server/persist/writer_pool.h"
#include "server/storage/file_system.h"

namespace ckpt {

class PartFile {
 public:
  PartFile(FileId id, uint64_t length) : id_(id), length_(length) {}

  FileId id() const { return id_; }
  uint64_t length() const { return length_; }

  // Makes the file at `path`, its blocks allocated. RESOURCE_EXHAUSTED: the disk is full.
  absl::Status Create(FileSystem* files, const std::string& path);

  // Where the next bytes of the file go: at most `*room` bytes at the returned address. Null with
  // the reason in `status` when a write has failed or memory is out.
  char* Next(WriteBuffers& buffers, PartWrites& writes, uint64_t* room, absl::Status& status);
  // `bytes` of them are in place. A full buffer goes to the writers, as does the file's last one.
  void Filled(uint64_t bytes, WriterPool& pool, PartWrites& writes);
  // The buffer at hand, if any, goes back unwritten (the part has failed).
  void Abandon(WriteBuffers& buffers, PartWrites& writes);

  // After all writes are done: its true length; then durable, and closed.
  absl::Status Cut();
  absl::Status Sync();

 private:
  const FileId id_;
  const uint64_t length_;
  std::unique_ptr<WritableFile> file_;
  uint64_t offset_ = 0;        // of the file: bytes filled so far
  char* buffer_ = nullptr;     // the one being filled
  size_t buffer_bytes_ = 0;    // its capacity
  uint64_t buffer_begin_ = 0;  // its offset in the file
};

}  // namespace ckpt

#endif  // CKPT_SERVER_PERSIST_PART_FILE_H_
