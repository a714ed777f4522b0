#include "tests/client/fake_daemon.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "gtest/gtest.h"

namespace ckpt::testing {
namespace {

const grpc::Status kUnset(grpc::StatusCode::UNIMPLEMENTED, "this test has not set it");
constexpr absl::Duration kPatience = absl::Seconds(10);

bool ReadExactly(int socket, void* data, size_t bytes) {
  auto* at = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t got = recv(socket, at, bytes, 0);
    if (got <= 0) return false;
    at += got;
    bytes -= static_cast<size_t>(got);
  }
  return true;
}

bool ReadFrame(int socket, v1::ClientFrame* frame) {
  uint32_t length = 0;
  if (!ReadExactly(socket, &length, 4) || length > 65536) return false;
  std::string body(length, '\0');
  return ReadExactly(socket, body.data(), length) && frame->ParseFromString(body);
}

bool SendWithDescriptor(int socket, const std::string& bytes, int descriptor) {
  iovec io{const_cast<char*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &io;
  message.msg_iovlen = 1;
  if (descriptor >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &descriptor, sizeof(int));
  }
  return sendmsg(socket, &message, MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
}

}  // namespace

class FakeDaemon::SaveFake : public v1::SaveService::Service {
 public:
  explicit SaveFake(FakeDaemon* daemon) : daemon_(daemon) {}
  grpc::Status Prepare(grpc::ServerContext*, const v1::PrepareRequest* request,
                       v1::PrepareResponse* response) override {
    return daemon_->on_prepare ? daemon_->on_prepare(*request, response) : kUnset;
  }

 private:
  grpc::Status Save(grpc::ServerContext* context, SaveStreamServer* stream) override {
    return daemon_->on_save ? daemon_->on_save(stream, context) : kUnset;
  }
  FakeDaemon* const daemon_;
};

class FakeDaemon::RestoreFake : public v1::RestoreService::Service {
 public:
  explicit RestoreFake(FakeDaemon* daemon) : daemon_(daemon) {}
  grpc::Status PlanRestore(grpc::ServerContext*, const v1::PlanRestoreRequest* request,
                           grpc::ServerWriter<v1::PlanRestoreResponse>* writer) override {
    return daemon_->on_plan ? daemon_->on_plan(*request, writer) : kUnset;
  }
  grpc::Status ReadPieces(grpc::ServerContext*, const v1::ReadPiecesRequest* request,
                          grpc::ServerWriter<v1::ReadPiecesResponse>* writer) override {
    return daemon_->on_read_pieces ? daemon_->on_read_pieces(*request, writer) : kUnset;
  }
  grpc::Status ReleasePlan(grpc::ServerContext*, const v1::ReleasePlanRequest* request,
                           v1::ReleasePlanResponse*) override {
    MutexLock lock(daemon_->mutex_);
    daemon_->released_.push_back(request->plan_id());
    return grpc::Status::OK;
  }

 private:
  FakeDaemon* const daemon_;
};

class FakeDaemon::CatalogFake : public v1::CatalogService::Service {
 public:
  explicit CatalogFake(FakeDaemon* daemon) : daemon_(daemon) {}
  grpc::Status WaitCheckpoint(grpc::ServerContext* context,
                              const v1::WaitCheckpointRequest* request,
                              v1::WaitCheckpointResponse* response) override {
    return daemon_->on_wait ? daemon_->on_wait(*request, response, context) : kUnset;
  }

 private:
  FakeDaemon* const daemon_;
};

FakeDaemon::FakeDaemon()
    : save_(std::make_unique<SaveFake>(this)),
      restore_(std::make_unique<RestoreFake>(this)),
      catalog_(std::make_unique<CatalogFake>(this)) {
  char folder[] = "/tmp/ckpt_fake_XXXXXX";
  folder_ = mkdtemp(folder);
  socket_ = folder_ + "/s";
  Start();
}

FakeDaemon::~FakeDaemon() {
  Stop();
  rmdir(folder_.c_str());
}

void FakeDaemon::Start() {
  grpc::ServerBuilder builder;
  builder.AddListeningPort("unix:" + socket_, grpc::InsecureServerCredentials());
  builder.RegisterService(save_.get());
  builder.RegisterService(restore_.get());
  builder.RegisterService(catalog_.get());
  server_ = builder.BuildAndStart();
  ASSERT_NE(server_, nullptr);
  listener_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = socket_ + ".fd";
  std::memcpy(address.sun_path, path.data(), path.size());
  ASSERT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  ASSERT_EQ(listen(listener_, 16), 0);
  acceptor_ = std::thread([this] { Accept(); });
}

void FakeDaemon::Stop() {
  if (server_ == nullptr) return;
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
  server_.reset();
  shutdown(listener_, SHUT_RDWR);
  acceptor_.join();
  close(listener_);
  unlink((socket_ + ".fd").c_str());
  CloseSessions();
  std::vector<std::thread> threads;
  {
    MutexLock lock(mutex_);
    threads.swap(threads_);
  }
  for (std::thread& thread : threads) thread.join();
}

void FakeDaemon::Accept() {
  for (int socket; (socket = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC)) >= 0;) {
    MutexLock lock(mutex_);
    threads_.emplace_back([this, socket] { Serve(socket); });
  }
}

void FakeDaemon::Serve(int socket) {
  v1::ClientFrame frame;
  size_t number = 0;
  if (ReadFrame(socket, &frame) && frame.has_hello()) {
    v1::DaemonFrame answer;
    {
      MutexLock lock(mutex_);
      number = sockets_.size();
      sockets_.push_back(socket);
      tokens_.push_back(SessionToken::Random().bytes());
      if (refuse.empty()) {
        answer.mutable_welcome()->set_protocol_version(1);
        answer.mutable_welcome()->set_session_token(tokens_.back());
      } else {
        answer.mutable_refused()->set_reason(refuse);
      }
      changed_.NotifyAll();
    }
    SendFrame(answer, -1);
    while (ReadFrame(socket, &frame)) {
      MutexLock lock(mutex_);
      unmapped_.push_back(*FileId::FromBytes(frame.unmapped().file_id(), "unmapped"));
      changed_.NotifyAll();
    }
  }
  MutexLock lock(mutex_);
  close(socket);
  if (number < sockets_.size() && sockets_[number] == socket) sockets_[number] = -1;
  ++ended_;
  changed_.NotifyAll();
}

bool FakeDaemon::SendFrame(const v1::DaemonFrame& frame, int descriptor) {
  const std::string body = frame.SerializeAsString();
  const auto length = static_cast<uint32_t>(body.size());
  std::string bytes(reinterpret_cast<const char*>(&length), 4);
  MutexLock lock(mutex_);
  if (sockets_.empty() || sockets_.back() < 0) return false;
  return SendWithDescriptor(sockets_.back(), bytes + body, descriptor);
}

bool FakeDaemon::SendBytes(const std::string& bytes) {
  MutexLock lock(mutex_);
  return !sockets_.empty() && SendWithDescriptor(sockets_.back(), bytes, -1);
}

bool FakeDaemon::Grant(FileId id, v1::FileAccess access, uint64_t length, int descriptor) {
  v1::DaemonFrame frame;
  frame.mutable_grant()->set_file_id(id.bytes());
  frame.mutable_grant()->set_access(access);
  frame.mutable_grant()->set_length(length);
  return SendFrame(frame, descriptor);
}

bool FakeDaemon::Revoke(FileId id) {
  v1::DaemonFrame frame;
  frame.mutable_revoke()->set_file_id(id.bytes());
  return SendFrame(frame, -1);
}

void FakeDaemon::CloseSessions() {
  MutexLock lock(mutex_);
  for (const int socket : sockets_) {
    if (socket >= 0) shutdown(socket, SHUT_RDWR);
  }
}

std::string FakeDaemon::token() {
  MutexLock lock(mutex_);
  return tokens_.empty() ? "" : tokens_.back();
}

bool FakeDaemon::AwaitUnmapped(FileId id) {
  const absl::Time deadline = absl::Now() + kPatience;
  MutexLock lock(mutex_);
  while (std::find(unmapped_.begin(), unmapped_.end(), id) == unmapped_.end()) {
    if (!changed_.WaitUntil(mutex_, deadline)) return false;
  }
  return true;
}

bool FakeDaemon::HasUnmapped(FileId id) {
  MutexLock lock(mutex_);
  return std::find(unmapped_.begin(), unmapped_.end(), id) != unmapped_.end();
}

bool FakeDaemon::AwaitSessionEnd(int ended) {
  const absl::Time deadline = absl::Now() + kPatience;
  MutexLock lock(mutex_);
  while (ended_ < ended) {
    if (!changed_.WaitUntil(mutex_, deadline)) return false;
  }
  return true;
}

int FakeDaemon::sessions_opened() {
  MutexLock lock(mutex_);
  return static_cast<int>(sockets_.size());
}

std::vector<std::string> FakeDaemon::released_plans() {
  MutexLock lock(mutex_);
  return released_;
}

}  // namespace ckpt::testing
