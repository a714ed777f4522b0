#include "server/persist/writer_pool.h"

namespace ckpt {

absl::Status PartWrites::Drain() {
  MutexLock lock(mutex_);
  while (in_flight_ > 0) changed_.Wait(mutex_);
  return status_;
}

absl::Status PartWrites::status() {
  MutexLock lock(mutex_);
  return status_;
}

void PartWrites::Begin() {
  MutexLock lock(mutex_);
  ++in_flight_;
}

void PartWrites::End(const absl::Status& status) {
  MutexLock lock(mutex_);
  --in_flight_;
  status_.Update(status);
  changed_.NotifyAll();  // under the lock: the part may be gone once it is released
}

WriterPool::WriterPool(int threads, WriteBuffers* buffers) : buffers_(buffers) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Work(); });
}

WriterPool::~WriterPool() {
  {
    MutexLock lock(mutex_);
    ending_ = true;
    arrived_.NotifyAll();
  }
  for (std::thread& thread : threads_) thread.join();
}

void WriterPool::Write(PartWrites* writes, WritableFile* file, uint64_t offset, char* buffer,
                       size_t bytes) {
  writes->Begin();
  MutexLock lock(mutex_);
  queue_.push_back({writes, file, offset, buffer, bytes});
  arrived_.NotifyOne();
}

void WriterPool::Work() {
  for (;;) {
    Entry entry;
    {
      MutexLock lock(mutex_);
      while (queue_.empty() && !ending_) arrived_.Wait(mutex_);
      if (queue_.empty()) return;
      entry = queue_.front();
      queue_.pop_front();
    }
    absl::Status status = entry.writes->status();
    if (status.ok()) status = entry.file->WriteAt(entry.offset, entry.buffer, entry.bytes);
    buffers_->GiveBack(entry.writes->holder(), entry.buffer);
    entry.writes->End(status);
  }
}

}  // namespace ckpt
