// One Save call, from Begin to Staged, as straight-line code over its messages. The order of
// messages stands in save.proto; what a part may do stands in staging/checkpoint_table.h.
#ifndef CKPT_SERVER_RPC_SAVE_STREAM_H_
#define CKPT_SERVER_RPC_SAVE_STREAM_H_

#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/access/rights.h"
#include "server/rpc/save_conversation.h"
#include "server/rpc/save_message.h"
#include "server/session/session.h"
#include "server/staging/checkpoint_table.h"

namespace ckpt {

// Layouts and values that are being received, of all streams: they lie in the daemon's own memory.
inline constexpr uint64_t kPlanBytesInFlightMax = uint64_t{1} << 30;

// How long a stream may stay without Begin: it has a thread, and nobody knows yet what for.
inline constexpr absl::Duration kBeginPatience = absl::Minutes(1);

class SaveStream {
 public:
  // `rights`: the caller's; they must outlive the stream.
  SaveStream(SessionServer* sessions, CheckpointTable* table, std::atomic<uint64_t>* plan_bytes,
             const Rights& rights, std::shared_ptr<SaveConversation> conversation,
             absl::Duration begin_patience = kBeginPatience);
  ~SaveStream();

  // Serves the call to its end: the part is staged, or why it is not.
  absl::StatusOr<v1::Staged> Run();
  // The status may help when it is retried a little later.
  bool retry_helps() const { return retry_helps_; }

 private:
  absl::StatusOr<v1::Begin> ReadBegin();
  absl::Status Join(const v1::Begin& begin);
  // The next message that is not a mere wake-up. An error ends the stream.
  absl::Status NextMessage(SaveMessage& message);
  absl::Status ReadLayout();
  // Whether that is the next chunk, of what `collected` bytes are there of.
  absl::Status CheckChunk(const v1::Chunk& chunk, v1::Chunk::Kind kind, uint64_t bytes_max,
                          uint64_t collected);
  absl::Status AddChunk(const v1::Chunk& chunk, v1::Chunk::Kind kind, uint64_t bytes_max,
                        std::string& collected);
  // What was sent beside the tensors, and is held until the stream ends.
  absl::Status CountPlanBytes(uint64_t bytes);
  absl::Status TakeValues(const v1::Chunk& chunk);
  absl::Status TakeSourceHashes(const v1::Chunk& chunk);
  absl::Status TakeData(const SaveMessage& data);
  void Acknowledge();
  void SendCreditIfGrown();
  absl::Status GiveUp(absl::Status why);

  SessionServer* const sessions_;
  CheckpointTable* const table_;
  std::atomic<uint64_t>* const plan_bytes_;  // of all streams
  const Rights& rights_;
  const std::shared_ptr<SaveConversation> conversation_;
  const absl::Duration begin_patience_;
  std::unique_ptr<PartStream> part_;
  uint64_t own_plan_bytes_ = 0;
  std::string values_;
  bool values_done_ = false;
  std::string source_hashes_;
  bool accepted_ = false;
  uint64_t credit_sent_ = 0;
  uint64_t received_ = 0;  // as Data
  uint64_t acknowledged_ = 0;
  bool retry_helps_ = false;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_SAVE_STREAM_H_
