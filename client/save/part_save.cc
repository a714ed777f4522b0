// The save, step by step (the wire: proto/ckpt/v1/save.proto):
//
//   1. Begin, with the layout's digest and a request id that stays the same over all attempts.
//   2. NeedPlan is answered by the serialized layout in chunks; a known layout is Accepted at once.
//   3. The values, in chunks.
//   4. The bytes. Shared memory: into the mapping of the granted file, by copy_threads threads;
//   through
//      a ring (part offset o at o mod file_bytes) in order, within the credit, with Progress as it
//      fills. Stream: Data messages in order, within the credit.
//      With hash_source each block is hashed where it lies, just before it is copied; the hashes go
//      in chunks after the bytes, and the daemon compares them with what it has persisted.
//   5. Finish; then Staged: the daemon owns every byte. The handle is told, the tensors may change.
//
// A stream that breaks after Accepted, while the session lives or where there is none, is begun
// again with the same request id within the daemon's grace, and goes on where Accepted.resume_from
// says. Every other error ends the save.
#include "client/save/part_save.h"

#include <algorithm>
#include <bit>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/copy_kernel.h"
#include "common/limits.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

constexpr uint64_t kCopyChunkBytes = uint64_t{4} << 20;
constexpr uint64_t kPacedChunkBytes = uint64_t{1} << 20;
constexpr uint64_t kProgressBytes = uint64_t{8} << 20;
constexpr uint64_t kDataBytes = kChunkBytesMax;
constexpr absl::Duration kResumeGrace = absl::Seconds(25);  // the daemon's is 30 s
constexpr absl::Duration kResumePause = absl::Milliseconds(200);

}  // namespace

PartSave::PartSave(std::shared_ptr<Connection> connection, WorkerThreads* workers,
                   std::shared_ptr<SaveHandle::Impl> state, std::shared_ptr<const PartBytes> bytes,
                   v1::Begin begin, std::string values, int copy_threads,
                   bool hash_source)
    : connection_(std::move(connection)),
      workers_(workers),
      state_(std::move(state)),
      bytes_(std::move(bytes)),
      begin_(std::move(begin)),
      values_(std::move(values)),
      copy_threads_(copy_threads),
      source_hashes_(hash_source ? bytes_->layout().block_count() : 0) {}

void PartSave::Cancel() {
  cancelled_.store(true);
  MutexLock lock(mutex_);
  if (stream_ != nullptr) stream_->Cancel();
  cancelled_changed_.NotifyAll();
}

void PartSave::Run() {
  absl::Time give_up = absl::InfiniteFuture();
  absl::Status status;
  for (;;) {
    const bool was_accepted = std::exchange(accepted_, false);
    status = Attempt();
    if (accepted_) give_up = absl::InfiniteFuture();  // it went on: the grace begins anew
    accepted_ = accepted_ || was_accepted;
    if (staged_ || !MayResume(status)) break;
    const absl::Time now = absl::Now();
    give_up = std::min(give_up, now + kResumeGrace);
    if (now >= give_up) break;
    {
      MutexLock lock(mutex_);
      if (!cancelled_.load()) cancelled_changed_.WaitUntil(mutex_, now + kResumePause);
    }
    // A daemon that dies breaks the stream a moment before the session.
    if (!MayResume(status)) break;
  }
  if (staged_) return;
  if (cancelled_.load())
    status = absl::CancelledError("the client was closed before the part was staged");
  bytes_.reset();
  state_->Fail(
      absl::Status(status.code(), absl::StrCat("save of ", state_->id().ToString(), ", rank ",
                                               begin_.rank(), ": ", status.message())));
}

bool PartSave::MayResume(const absl::Status& status) const {
  const bool session_gone = begin_.transport() == v1::TRANSPORT_SHARED_MEMORY &&
                            session_ != nullptr && session_->broken();
  return accepted_ && !session_gone && !cancelled_.load() && absl::IsUnavailable(status);
}

absl::Status PartSave::Attempt() {
  // Shared memory is resumed over the session that has it mapped, or not at all.
  if (session_ == nullptr || begin_.transport() != v1::TRANSPORT_SHARED_MEMORY) {
    CKPT_ASSIGN_OR_RETURN(session_, connection_->GetSession());
  }
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<SaveStream> stream, connection_->OpenSave());
  {
    MutexLock lock(mutex_);
    stream_ = stream.get();
    if (cancelled_.load()) stream->Cancel();
  }
  SaveResponses responses(stream.get());
  const absl::Status reading = workers_->Start([&responses] { responses.ReadAll(); });
  if (!reading.ok()) {
    stream->Cancel();
    responses.ReadAll();
  }
  v1::Begin begin = begin_;
  if (session_ != nullptr) begin.set_session_token(session_->token());
  const Outcome outcome =
      reading.ok() ? Converse(*stream, responses, session_.get(), begin) : Outcome{reading};
  // A stream that is over has a reason to tell, which a cancellation could take the place of.
  if (!outcome.status.ok() && !outcome.stream_over) stream->Cancel();
  responses.AwaitEnd();
  {
    MutexLock lock(mutex_);
    stream_ = nullptr;
  }
  const absl::Status ended = stream->Finish();
  if (!outcome.stream_over) return outcome.status;
  if (!ended.ok()) return ended;
  return absl::InternalError("the daemon ended the save stream before the part was staged");
}

PartSave::Outcome PartSave::Converse(SaveStream& stream, SaveResponses& responses, Session* session,
                                     const v1::Begin& begin) {
  const Outcome over{absl::OkStatus(), true};
  v1::SaveRequest request;
  *request.mutable_begin() = begin;
  if (!stream.Write(request)) return over;

  v1::Accepted accepted;
  SaveResponses::Answer answer = responses.AwaitAnswer(false, &accepted);
  if (answer == SaveResponses::Answer::kNeedPlan) {
    if (!SendChunks(stream, v1::Chunk::KIND_LAYOUT, bytes_->layout().serialized())) return over;
    answer = responses.AwaitAnswer(true, &accepted);
  }
  if (answer == SaveResponses::Answer::kEnded) return over;
  accepted_ = true;
  if (accepted.part_bytes() != bytes_->part_bytes()) {
    return {
        absl::InternalError(absl::StrCat("the daemon computed a part of ", accepted.part_bytes(),
                                         " bytes, this client one of ", bytes_->part_bytes()))};
  }
  state_->SetCopied(accepted.resume_from());

  if (!values_.empty() && accepted.resume_from() == 0) {
    if (!SendChunks(stream, v1::Chunk::KIND_VALUES, values_)) return over;
  }
  // Resumed after Finish, everything is there, and the daemon names no file any more.
  if (accepted.resume_from() < bytes_->part_bytes()) {
    const Outcome copied = accepted.transport() == v1::TRANSPORT_STREAM
                               ? SendData(stream, responses, accepted)
                               : CopyShared(stream, responses, *session, accepted);
    if (copied.stream_over || !copied.status.ok()) return copied;
  }
  if (!source_hashes_.empty()) {
    static_assert(std::endian::native == std::endian::little);
    const std::string hashes(reinterpret_cast<const char*>(source_hashes_.data()),
                             source_hashes_.size() * sizeof(uint64_t));
    if (!SendChunks(stream, v1::Chunk::KIND_SOURCE_HASHES, hashes)) return over;
  }
  request.mutable_finish()->set_part_bytes(bytes_->part_bytes());
  if (!stream.Write(request) || !responses.AwaitStaged()) return over;
  staged_ = true;
  state_->SetStaged();  // from here on the tensors may change: nothing reads them
  bytes_.reset();       // takes its time, which is not part of the stall
  return {};
}

bool PartSave::SendChunks(SaveStream& stream, v1::Chunk::Kind kind, const std::string& bytes) {
  v1::SaveRequest request;
  v1::Chunk* chunk = request.mutable_chunk();
  chunk->set_kind(kind);
  for (size_t offset = 0;;) {
    const size_t length = std::min(kChunkBytesMax, bytes.size() - offset);
    chunk->set_offset(offset);
    chunk->set_data(bytes.data() + offset, length);
    offset += length;
    chunk->set_last(offset == bytes.size());
    if (!stream.Write(request)) return false;
    if (chunk->last()) return true;
  }
}

PartSave::Outcome PartSave::CopyShared(SaveStream& stream, SaveResponses& responses,
                                       Session& session, const v1::Accepted& accepted) {
  const absl::StatusOr<FileId> id = FileId::FromBytes(accepted.file_id(), "the staging file's id");
  if (!id.ok()) return {id.status()};
  if (accepted.file_bytes() == 0) {
    return {absl::InternalError("the daemon accepted a part into a file of no bytes")};
  }
  const absl::StatusOr<std::unique_ptr<StagingUse>> use =
      session.files().UseStaging(*id, accepted.file_bytes(), absl::Now() + kGrantTimeout,
                                 [&responses] { return responses.ended(); });
  if (!use.ok()) return {use.status(), responses.ended()};
  Mapping& mapping = (*use)->mapping();
  if (accepted.ring() || accepted.credit() < accepted.part_bytes()) {
    return CopyPaced(stream, responses, mapping, accepted);
  }
  const absl::Status copied =
      CopyWindow(responses, mapping, accepted.file_bytes(), accepted.resume_from(),
                 accepted.part_bytes(), kCopyChunkBytes);
  return {copied, responses.ended()};
}

PartSave::Outcome PartSave::CopyPaced(SaveStream& stream, SaveResponses& responses,
                                      Mapping& mapping, const v1::Accepted& accepted) {
  uint64_t written = accepted.resume_from();
  while (written < accepted.part_bytes()) {
    const uint64_t credit = responses.AwaitCredit(written);
    if (credit == written) return {absl::OkStatus(), true};
    const uint64_t end = std::min({credit, accepted.part_bytes(), written + kProgressBytes});
    const absl::Status copied =
        CopyWindow(responses, mapping, accepted.file_bytes(), written, end, kPacedChunkBytes);
    if (!copied.ok()) return {copied};
    if (responses.ended()) return {absl::OkStatus(), true};
    written = end;
    v1::SaveRequest request;
    request.mutable_progress()->set_written(written);
    if (!stream.Write(request)) return {absl::OkStatus(), true};
  }
  return {};
}

absl::Status PartSave::CopyWindow(SaveResponses& responses, Mapping& mapping, uint64_t file_bytes,
                                  uint64_t begin, uint64_t end, uint64_t chunk_bytes) {
  std::atomic<uint64_t> next{begin};
  Mutex mutex;
  absl::Status failed;
  const auto copy = [&](int) {
    while (!responses.ended() && !cancelled_.load(std::memory_order_relaxed)) {
      const uint64_t from = next.fetch_add(chunk_bytes, std::memory_order_relaxed);
      if (from >= end) break;
      const uint64_t to = std::min(end, from + chunk_bytes);
      if (!source_hashes_.empty()) bytes_->HashBlocks(from, to - from, source_hashes_.data());
      for (uint64_t at = from; at < to;) {  // twice where the chunk wraps around the ring
        const uint64_t offset = at % file_bytes;
        const uint64_t bytes = std::min(to - at, file_bytes - offset);
        const absl::Status present = mapping.Populate(offset, bytes);
        if (!present.ok()) {
          next.store(end, std::memory_order_relaxed);
          MutexLock lock(mutex);
          failed = present;
          return;
        }
        bytes_->CopyRange(at, bytes, mapping.data() + offset, true);
        at += bytes;
      }
      state_->AddCopied(to - from);
    }
    CopyFence();
  };
  const uint64_t chunks = (end - begin + chunk_bytes - 1) / chunk_bytes;
  workers_->RunTogether(
      static_cast<int>(std::min<uint64_t>(static_cast<uint64_t>(copy_threads_), chunks)), copy);
  MutexLock lock(mutex);
  if (failed.ok() && cancelled_.load()) return absl::CancelledError("cancelled");
  return failed;
}

PartSave::Outcome PartSave::SendData(SaveStream& stream, SaveResponses& responses,
                                     const v1::Accepted& accepted) {
  const Outcome over{absl::OkStatus(), true};
  const auto piece_at = [this](uint64_t from, uint64_t bytes) {
    return bytes_->PieceAt(from, bytes);
  };
  const auto copy = [this](uint64_t from, uint64_t bytes, std::byte* out) {
    bytes_->CopyRange(from, bytes, out, false);
  };
  const DataSource source{piece_at, copy, bytes_};
  uint64_t credit = accepted.credit();
  for (uint64_t offset = accepted.resume_from(); offset < accepted.part_bytes();) {
    if (credit <= offset) credit = responses.AwaitCredit(offset);
    if (credit <= offset || responses.ended()) return over;
    const uint64_t length = std::min({credit, accepted.part_bytes(), offset + kDataBytes}) - offset;
    if (!source_hashes_.empty()) bytes_->HashBlocks(offset, length, source_hashes_.data());
    if (!stream.WriteData(offset, length, source)) return over;
    state_->AddCopied(length);
    offset += length;
  }
  return {};
}

}  // namespace ckpt
