#include "tests/client/fake_save.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "common/digest.h"
#include "common/limits.h"

namespace ckpt::testing {
namespace {

grpc::Status Wrong(const std::string& what) {
  return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "protocol: " + what);
}
const grpc::Status kGone(grpc::StatusCode::CANCELLED, "the client went away");

}  // namespace

FakeSave::FakeSave(FakeDaemon* daemon) : daemon_(daemon) {
  daemon_->on_save = [this](SaveStreamServer* stream, grpc::ServerContext* context) {
    return Run(stream, context);
  };
}

FakeSave::~FakeSave() {
  daemon_->Stop();
  MutexLock lock(mutex_);
  for (auto& [token, file] : files_) close(file.descriptor);
}

FakeSave::File FakeSave::Staging(uint64_t bytes, bool* granted_before) {
  const std::string token = daemon_->token();
  MutexLock lock(mutex_);
  File& file = files_[token];
  *granted_before = file.descriptor >= 0 && file.length >= bytes;
  if (!*granted_before) {
    if (file.descriptor >= 0) close(file.descriptor);
    file.id = FileId::Random();
    file.length = bytes;
    file.descriptor = memfd_create("staging", MFD_CLOEXEC);
    if (ftruncate(file.descriptor, static_cast<off_t>(bytes)) != 0) std::abort();
    ++grants_;
  }
  last_file_ = file.id;
  return file;
}

grpc::Status FakeSave::Run(SaveStreamServer* stream, grpc::ServerContext* context) {
  v1::SaveRequest request;
  if (!stream->Read(&request)) return kGone;
  if (!request.has_begin()) return Wrong("no Begin");
  Received part;
  part.begin = request.begin();
  {
    MutexLock lock(mutex_);
    begins_.push_back(part.begin);
  }
  if (grpc::Status status = TakePlan(stream, part.begin, part); !status.ok()) return status;
  if (before_accepted) {
    if (grpc::Status status = before_accepted(); !status.ok()) return status;
  }
  const uint64_t part_bytes = part.layout->part_bytes();
  const bool shared = part.begin.transport() == v1::TRANSPORT_SHARED_MEMORY;
  bool finished = false;
  {
    MutexLock lock(mutex_);
    finished = finished_.contains(part.begin.request_id());
  }
  v1::SaveResponse response;
  v1::Accepted* accepted = response.mutable_accepted();
  accepted->set_transport(part.begin.transport());
  accepted->set_part_bytes(part_bytes);
  accepted->set_credit(part_bytes);
  File file;
  bool granted_before = true;
  if (shared && part_bytes > 0 && !finished) {
    if (part.begin.session_token() != daemon_->token()) {
      return grpc::Status(grpc::StatusCode::UNAUTHENTICATED, "unknown session");
    }
    const uint64_t file_bytes = ring_bytes > 0 ? std::min(ring_bytes, part_bytes) : part_bytes;
    file = Staging(file_bytes, &granted_before);
    accepted->set_file_id(file.id.bytes());
    accepted->set_file_bytes(file.length);
    accepted->set_ring(file.length < part_bytes);
    accepted->set_credit(std::min(file.length, part_bytes));
    if (!granted_before && !grant_after_accepted) {
      daemon_->Grant(file.id, v1::FILE_ACCESS_STAGING, file.length, file.descriptor);
    }
  }
  {
    MutexLock lock(mutex_);
    part.bytes = unfinished_[part.begin.request_id()];
  }
  accepted->set_resume_from(part.bytes.size());
  if (!stream->Write(response)) return kGone;
  if (!granted_before && grant_after_accepted) {
    daemon_->Grant(file.id, v1::FILE_ACCESS_STAGING, file.length, file.descriptor);
  }
  if (!stream->Read(&request)) return kGone;
  if (grpc::Status status = TakeValues(stream, &request, part); !status.ok()) return status;
  const grpc::Status taken =
      shared ? TakeShared(stream, &request, file, part) : TakeStream(stream, &request, part);
  if (!taken.ok()) return taken;
  if (!request.has_finish() || request.finish().part_bytes() != part_bytes) {
    return Wrong("Finish expected");
  }
  if (break_after_finish && !finished) {
    MutexLock lock(mutex_);
    unfinished_[part.begin.request_id()] = part.bytes;
    finished_.insert(part.begin.request_id());
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "broken on purpose");
  }
  if (before_staged) {
    if (grpc::Status status = before_staged(context); !status.ok()) return status;
  }
  {
    MutexLock lock(mutex_);
    received_.push_back(part);
  }
  response.mutable_staged();
  stream->Write(response);
  return grpc::Status::OK;
}

grpc::Status FakeSave::TakePlan(SaveStreamServer* stream, const v1::Begin& begin, Received& part) {
  {
    MutexLock lock(mutex_);
    if (auto found = layouts_.find(begin.layout_digest()); found != layouts_.end()) {
      part.layout = found->second;
      return grpc::Status::OK;
    }
    ++plans_asked_;
  }
  v1::SaveResponse response;
  response.mutable_need_plan();
  if (!stream->Write(response)) return kGone;
  std::string bytes;
  v1::SaveRequest request;
  do {
    if (!stream->Read(&request)) return kGone;
    const v1::Chunk& chunk = request.chunk();
    if (chunk.kind() != v1::Chunk::KIND_LAYOUT || chunk.offset() != bytes.size() ||
        chunk.data().size() > kChunkBytesMax) {
      return Wrong("layout chunk");
    }
    bytes += chunk.data();
  } while (!request.chunk().last());
  auto layout = PartLayout::FromBytes(std::move(bytes));
  if (!layout.ok()) return Wrong(std::string(layout.status().message()));
  if ((*layout)->digest() != begin.layout_digest()) return Wrong("layout digest");
  part.layout = *layout;
  MutexLock lock(mutex_);
  layouts_[begin.layout_digest()] = part.layout;
  return grpc::Status::OK;
}

grpc::Status FakeSave::TakeValues(SaveStreamServer* stream, v1::SaveRequest* request,
                                  Received& part) {
  std::string bytes;
  bool last = !request->has_chunk();
  while (!last) {
    const v1::Chunk& chunk = request->chunk();
    if (chunk.kind() != v1::Chunk::KIND_VALUES || chunk.offset() != bytes.size()) {
      return Wrong("values chunk");
    }
    bytes += chunk.data();
    last = chunk.last();
    if (!stream->Read(request)) return kGone;
  }
  return part.values.ParseFromString(bytes) ? grpc::Status::OK : Wrong("values");
}

grpc::Status FakeSave::TakeShared(SaveStreamServer* stream, v1::SaveRequest* request,
                                  const File& file, Received& part) {
  const uint64_t part_bytes = part.layout->part_bytes();
  uint64_t credit = std::min(file.length, part_bytes);
  const auto take_up_to = [&](uint64_t end) {
    while (part.bytes.size() < end) {
      const uint64_t at = part.bytes.size() % file.length;
      std::string piece(std::min(end - part.bytes.size(), file.length - at), '\0');
      if (pread(file.descriptor, piece.data(), piece.size(), static_cast<off_t>(at)) !=
          static_cast<ssize_t>(piece.size())) {
        std::abort();
      }
      part.bytes += piece;
    }
  };
  while (request->has_progress()) {
    ++part.progress_messages;
    const uint64_t written = request->progress().written();
    if (written > credit || written <= part.bytes.size()) return Wrong("Progress");
    if (part.progress_messages == 1 && before_finish) {
      if (grpc::Status status = before_finish(); !status.ok()) return status;
    }
    take_up_to(written);
    credit = std::min(part_bytes, written + file.length);
    v1::SaveResponse response;
    response.mutable_credit()->set_credit(credit);
    if (!stream->Write(response) || !stream->Read(request)) return kGone;
  }
  if (request->has_finish() && file.length > 0) take_up_to(part_bytes);
  return grpc::Status::OK;
}

grpc::Status FakeSave::TakeStream(SaveStreamServer* stream, v1::SaveRequest* request,
                                  Received& part) {
  while (request->has_data()) {
    const v1::Data& data = request->data();
    if (data.offset() != part.bytes.size() || data.data().size() > kChunkBytesMax) {
      return Wrong("Data offset");
    }
    if (Crc32c(data.data()) != data.crc32c()) return Wrong("Data CRC");
    ++part.data_messages;
    if (part.data_messages == 1 && before_finish) {
      if (grpc::Status status = before_finish(); !status.ok()) return status;
    }
    part.bytes += data.data();
    {
      MutexLock lock(mutex_);
      unfinished_[part.begin.request_id()] = part.bytes;
      if (break_stream_at > 0 && part.bytes.size() >= break_stream_at && !broken_once_) {
        broken_once_ = true;
        return grpc::Status(grpc::StatusCode::UNAVAILABLE, "broken on purpose");
      }
    }
    v1::SaveResponse response;
    response.mutable_ack()->set_received(part.bytes.size());
    if (!stream->Write(response) || !stream->Read(request)) return kGone;
  }
  return grpc::Status::OK;
}

std::vector<FakeSave::Received> FakeSave::received() {
  MutexLock lock(mutex_);
  return received_;
}

std::vector<v1::Begin> FakeSave::begins() {
  MutexLock lock(mutex_);
  return begins_;
}

int FakeSave::plans_asked() {
  MutexLock lock(mutex_);
  return plans_asked_;
}

int FakeSave::grants() {
  MutexLock lock(mutex_);
  return grants_;
}

FileId FakeSave::last_file() {
  MutexLock lock(mutex_);
  return last_file_;
}

}  // namespace ckpt::testing
