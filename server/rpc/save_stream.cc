#include "server/rpc/save_stream.h"

#include <bit>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/checkpoint_id.h"
#include "common/limits.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

// Bytes are acknowledged by the lot; the last ones when the client pauses. One answer for each
// chunk would wake both sides up for it.
constexpr uint64_t kAckEveryBytes = 8 << 20;
constexpr absl::Duration kAckPause = absl::Milliseconds(5);
// Of a layout: smaller ones are put together as they come, so that they stay few.
constexpr size_t kChunkKeptBytesMin = 1 << 20;

absl::string_view NameOf(const SaveMessage& message) {
  switch (message.kind()) {
    case v1::SaveRequest::kBegin:
      return "Begin";
    case v1::SaveRequest::kChunk:
      return "Chunk";
    case v1::SaveRequest::kData:
      return "Data";
    case v1::SaveRequest::kProgress:
      return "Progress";
    case v1::SaveRequest::kFinish:
      return "Finish";
    default:
      return "an empty or unknown message";
  }
}

}  // namespace

SaveStream::SaveStream(SessionServer* sessions, CheckpointTable* table,
                       std::atomic<uint64_t>* plan_bytes, const Rights& rights,
                       std::shared_ptr<SaveConversation> conversation,
                       absl::Duration begin_patience)
    : sessions_(sessions),
      table_(table),
      plan_bytes_(plan_bytes),
      rights_(rights),
      conversation_(std::move(conversation)),
      begin_patience_(begin_patience) {}

SaveStream::~SaveStream() { *plan_bytes_ -= own_plan_bytes_; }

absl::StatusOr<v1::Staged> SaveStream::Run() {
  {
    CKPT_ASSIGN_OR_RETURN(const v1::Begin begin, ReadBegin());
    if (absl::Status joined = Join(begin); !joined.ok()) {
      retry_helps_ = absl::IsResourceExhausted(joined);  // a quota: nothing was begun
      return joined;
    }
  }
  if (part_->needs_layout()) CKPT_RETURN_IF_ERROR(ReadLayout());
  auto gone = [this] { return conversation_->broken(); };
  absl::StatusOr<v1::Accepted> accepted = part_->Open(gone);
  if (!accepted.ok()) {
    retry_helps_ = absl::IsResourceExhausted(accepted.status()) && part_->status().ok();
    return accepted.status();
  }
  credit_sent_ = accepted->credit();
  received_ = acknowledged_ = accepted->resume_from();
  accepted_ = true;
  v1::SaveResponse response;
  *response.mutable_accepted() = *std::move(accepted);
  conversation_->Send(std::move(response));
  while (true) {
    SaveMessage message;
    CKPT_RETURN_IF_ERROR(NextMessage(message));
    switch (message.kind()) {
      case v1::SaveRequest::kChunk:
        CKPT_RETURN_IF_ERROR(message.request().chunk().kind() == v1::Chunk::KIND_SOURCE_HASHES
                                 ? TakeSourceHashes(message.request().chunk())
                                 : TakeValues(message.request().chunk()));
        break;
      case v1::SaveRequest::kData:
        CKPT_RETURN_IF_ERROR(TakeData(message));
        break;
      case v1::SaveRequest::kProgress:
        CKPT_RETURN_IF_ERROR(part_->Progress(message.request().progress().written()));
        SendCreditIfGrown();
        break;
      case v1::SaveRequest::kFinish:
        if (!values_.empty()) {
          return GiveUp(absl::FailedPreconditionError("Finish in the middle of the values"));
        }
        if (!source_hashes_.empty()) {
          return GiveUp(absl::FailedPreconditionError("Finish in the middle of the source hashes"));
        }
        return part_->Finish(message.request().finish().part_bytes(), gone);
      default:
        return GiveUp(absl::InvalidArgumentError(absl::StrCat(
            NameOf(message), " after Accepted; expected values, data, progress or ", "Finish")));
    }
  }
}

absl::StatusOr<v1::Begin> SaveStream::ReadBegin() {
  grpc::ByteBuffer received;
  SaveMessage message;
  const absl::Time deadline = absl::Now() + begin_patience_;
  while (true) {
    switch (conversation_->Next(&received, deadline)) {
      case SaveConversation::Event::kMessage:
        CKPT_RETURN_IF_ERROR(message.Parse(received));
        if (message.kind() == v1::SaveRequest::kBegin) return message.request().begin();
        return absl::InvalidArgumentError(absl::StrCat(
            "a Save stream starts with Begin; this one started with ", NameOf(message)));
      case SaveConversation::Event::kBell:
        break;
      case SaveConversation::Event::kHalfClosed:
        return absl::InvalidArgumentError("the stream ended before Begin");
      case SaveConversation::Event::kBroken:
        return absl::CancelledError("the client has gone away");
      case SaveConversation::Event::kTimeout:
        return absl::DeadlineExceededError(
            absl::StrCat("no Begin came within ", absl::FormatDuration(begin_patience_)));
    }
  }
}

absl::Status SaveStream::Join(const v1::Begin& begin) {
  // Before anything is looked up: what is denied is denied whether the run is there or not.
  CKPT_RETURN_IF_ERROR(ValidateRun(begin.id().run()));
  CKPT_RETURN_IF_ERROR(rights_.Require(Verb::kWrite, begin.id().run()));
  std::shared_ptr<Session> session;
  if (!begin.session_token().empty()) {
    if (sessions_ != nullptr) session = sessions_->Find(begin.session_token());
    if (session == nullptr) {
      return absl::UnauthenticatedError(
          "session_token is unknown: the session has ended, or the daemon was restarted; connect "
          "to the session socket again");
    }
  }
  CKPT_ASSIGN_OR_RETURN(PartClaim claim, PartClaim::FromBegin(begin, std::move(session),
                                                              table_->join_deadline_default()));
  // The conversation outlives this stream for as long as somebody may ring.
  CKPT_ASSIGN_OR_RETURN(part_, table_->Begin(std::move(claim), [conversation = conversation_] {
    conversation->Ring();
  }));
  return absl::OkStatus();
}

absl::Status SaveStream::NextMessage(SaveMessage& message) {
  grpc::ByteBuffer received;
  while (true) {
    const bool owes_ack = received_ > acknowledged_;
    switch (conversation_->Next(&received,
                                owes_ack ? absl::Now() + kAckPause : absl::InfiniteFuture())) {
      case SaveConversation::Event::kMessage:
        if (absl::Status parsed = message.Parse(received); !parsed.ok()) return GiveUp(parsed);
        return absl::OkStatus();
      case SaveConversation::Event::kBell:
        CKPT_RETURN_IF_ERROR(part_->status());
        if (accepted_) SendCreditIfGrown();
        break;
      case SaveConversation::Event::kHalfClosed:
        return GiveUp(
            absl::FailedPreconditionError("the client ended the stream without Finish: given up"));
      case SaveConversation::Event::kBroken:
        return absl::CancelledError("the client has gone away");
      case SaveConversation::Event::kTimeout:
        Acknowledge();
        break;
    }
  }
}

absl::Status SaveStream::ReadLayout() {
  v1::SaveResponse need;
  need.mutable_need_plan();
  conversation_->Send(std::move(need));
  std::vector<std::string> chunks;  // of megabytes each: put together once, and not moved before
  uint64_t bytes = 0;
  while (true) {
    SaveMessage message;
    CKPT_RETURN_IF_ERROR(NextMessage(message));
    if (message.kind() != v1::SaveRequest::kChunk) {
      return GiveUp(absl::InvalidArgumentError(
          absl::StrCat(NameOf(message), " before Accepted; expected the layout's chunks")));
    }
    CKPT_RETURN_IF_ERROR(
        CheckChunk(message.request().chunk(), v1::Chunk::KIND_LAYOUT, kLayoutBytesMax, bytes));
    bytes += message.request().chunk().data().size();
    if (chunks.empty() || message.request().chunk().data().size() >= kChunkKeptBytesMin) {
      chunks.push_back(message.TakeChunkData());
    } else {
      chunks.back() += message.request().chunk().data();
    }
    if (message.request().chunk().last()) break;
  }
  if (chunks.size() == 1) return part_->SetLayout(std::move(chunks.front()));
  std::string serialized;
  serialized.reserve(bytes);
  for (std::string& chunk : chunks) {
    serialized += chunk;
    chunk = std::string();
  }
  return part_->SetLayout(std::move(serialized));
}

absl::Status SaveStream::CheckChunk(const v1::Chunk& chunk, v1::Chunk::Kind kind,
                                    uint64_t bytes_max, uint64_t collected) {
  const absl::string_view what = kind == v1::Chunk::KIND_LAYOUT   ? "layout"
                                 : kind == v1::Chunk::KIND_VALUES ? "values"
                                                                  : "source hashes";
  if (chunk.kind() != kind) {
    return GiveUp(absl::InvalidArgumentError(absl::StrCat("a chunk of another kind than ", what)));
  }
  if (chunk.offset() != collected) {
    return GiveUp(absl::InvalidArgumentError(absl::StrCat("a chunk of the ", what, " at offset ",
                                                          chunk.offset(), " where offset ",
                                                          collected, " comes next")));
  }
  if (chunk.data().size() > kChunkBytesMax) {
    return GiveUp(absl::InvalidArgumentError(absl::StrCat(
        "a chunk of ", chunk.data().size(), " bytes; at most ", kChunkBytesMax, " are allowed")));
  }
  if (chunk.data().empty() && !chunk.last()) {
    return GiveUp(absl::InvalidArgumentError(absl::StrCat("an empty chunk of the ", what)));
  }
  if (collected + chunk.data().size() > bytes_max) {
    return GiveUp(absl::InvalidArgumentError(
        absl::StrCat("the ", what, " is larger than ", bytes_max, " bytes")));
  }
  return CountPlanBytes(chunk.data().size());
}

absl::Status SaveStream::CountPlanBytes(uint64_t bytes) {
  own_plan_bytes_ += bytes;
  if (*plan_bytes_ += bytes; *plan_bytes_ > kPlanBytesInFlightMax) {
    retry_helps_ = true;
    return absl::ResourceExhaustedError(
        "too many layouts and values are being received at once; retry later");
  }
  return absl::OkStatus();
}

absl::Status SaveStream::AddChunk(const v1::Chunk& chunk, v1::Chunk::Kind kind, uint64_t bytes_max,
                                  std::string& collected) {
  CKPT_RETURN_IF_ERROR(CheckChunk(chunk, kind, bytes_max, collected.size()));
  collected.append(chunk.data());
  return absl::OkStatus();
}

absl::Status SaveStream::TakeValues(const v1::Chunk& chunk) {
  if (values_done_) return GiveUp(absl::FailedPreconditionError("the values came twice"));
  CKPT_RETURN_IF_ERROR(AddChunk(chunk, v1::Chunk::KIND_VALUES, kValuesBytesMax, values_));
  if (!chunk.last()) return absl::OkStatus();
  CKPT_ASSIGN_OR_RETURN(const uint64_t bytes, part_->SetValues(values_));
  values_ = std::string();
  values_done_ = true;
  return CountPlanBytes(bytes);
}

absl::Status SaveStream::TakeSourceHashes(const v1::Chunk& chunk) {
  CKPT_RETURN_IF_ERROR(AddChunk(chunk, v1::Chunk::KIND_SOURCE_HASHES, kSourceHashesBytesMax,
                                source_hashes_));
  if (!chunk.last()) return absl::OkStatus();
  if (source_hashes_.size() % sizeof(uint64_t) != 0) {
    return GiveUp(absl::InvalidArgumentError("the source hashes end in the middle of one"));
  }
  std::vector<uint64_t> hashes(source_hashes_.size() / sizeof(uint64_t));
  static_assert(std::endian::native == std::endian::little);
  if (!hashes.empty()) std::memcpy(hashes.data(), source_hashes_.data(), source_hashes_.size());
  source_hashes_.clear();
  return part_->SetSourceHashes(std::move(hashes));
}

absl::Status SaveStream::TakeData(const SaveMessage& data) {
  if (!values_.empty()) {
    return GiveUp(absl::FailedPreconditionError("Data in the middle of the values"));
  }
  const uint64_t bytes = data.payload().bytes();
  if (bytes == 0 || bytes > kChunkBytesMax) {
    return GiveUp(absl::InvalidArgumentError(
        absl::StrCat("data of ", bytes, " bytes; 1 to ", kChunkBytesMax, " are allowed")));
  }
  CKPT_RETURN_IF_ERROR(part_->Write(data.offset(), data.payload()));
  received_ = part_->received();
  if (received_ >= acknowledged_ + kAckEveryBytes) Acknowledge();
  SendCreditIfGrown();
  return absl::OkStatus();
}

void SaveStream::Acknowledge() {
  acknowledged_ = received_;
  v1::SaveResponse ack;
  ack.mutable_ack()->set_received(acknowledged_);
  conversation_->Send(std::move(ack));
}

void SaveStream::SendCreditIfGrown() {
  const uint64_t credit = part_->credit();
  if (credit <= credit_sent_) return;
  credit_sent_ = credit;
  v1::SaveResponse response;
  response.mutable_credit()->set_credit(credit);
  conversation_->Send(std::move(response));
}

absl::Status SaveStream::GiveUp(absl::Status why) {
  if (part_ != nullptr) part_->GiveUp(why);
  return why;
}

}  // namespace ckpt
