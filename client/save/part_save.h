// One save of one part, from Begin to Staged: the client's side of proto/ckpt/v1/save.proto.
#ifndef CKPT_CLIENT_SAVE_PART_SAVE_H_
#define CKPT_CLIENT_SAVE_PART_SAVE_H_

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/memory/worker_threads.h"
#include "client/save/part_bytes.h"
#include "client/save/save_responses.h"
#include "client/save/save_state.h"
#include "client/transport/connection.h"
#include "common/mutex.h"

namespace ckpt {

class PartSave {
 public:
  // `begin` is complete but for the session token. `hash_source` as in SaveOptions.
  PartSave(std::shared_ptr<Connection> connection, WorkerThreads* workers,
           std::shared_ptr<SaveHandle::Impl> state, std::shared_ptr<const PartBytes> bytes,
           v1::Begin begin, std::string values, int copy_threads,
           bool hash_source);

  // Blocks until the part is staged or has failed, and tells the handle. Called once, on a thread
  // of its own.
  void Run();
  // Any thread, any time: Run ends soon, with CANCELLED unless it was staged.
  void Cancel();

 private:
  // Why a conversation stopped: OK after Staged; `stream_over` when the stream's own status says
  // why.
  struct Outcome {
    absl::Status status;
    bool stream_over = false;
  };
  absl::Status Attempt();
  Outcome Converse(SaveStream& stream, SaveResponses& responses, Session* session,
                   const v1::Begin& begin);
  bool SendChunks(SaveStream& stream, v1::Chunk::Kind kind, const std::string& bytes);
  Outcome CopyShared(SaveStream& stream, SaveResponses& responses, Session& session,
                     const v1::Accepted& accepted);
  Outcome CopyPaced(SaveStream& stream, SaveResponses& responses, Mapping& mapping,
                    const v1::Accepted& accepted);
  // Copies [begin, end) of the part into the mapping, in parallel.
  absl::Status CopyWindow(SaveResponses& responses, Mapping& mapping, uint64_t file_bytes,
                          uint64_t begin, uint64_t end, uint64_t chunk_bytes);
  Outcome SendData(SaveStream& stream, SaveResponses& responses, const v1::Accepted& accepted);
  bool MayResume(const absl::Status& status) const;

  const std::shared_ptr<Connection> connection_;
  WorkerThreads* const workers_;
  const std::shared_ptr<SaveHandle::Impl> state_;
  std::shared_ptr<const PartBytes> bytes_;  // let go of as soon as staged
  const v1::Begin begin_;
  const std::string values_;
  const int copy_threads_;
  std::vector<uint64_t> source_hashes_;  // of each block, over all attempts; empty: not wanted

  bool staged_ = false;
  bool accepted_ = false;  // some attempt was: a broken stream may be resumed
  std::shared_ptr<Session> session_;
  std::atomic<bool> cancelled_{false};
  Mutex mutex_;
  CondVar cancelled_changed_;
  SaveStream* stream_ ABSL_GUARDED_BY(mutex_) = nullptr;  // of the attempt under way
};

}  // namespace ckpt

#endif  // CKPT_CLIENT_SAVE_PART_SAVE_H_
