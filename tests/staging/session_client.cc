#include "tests/staging/session_client.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace ckpt {

int ConnectSocket(const std::string& path) {
  const int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  if (connect(descriptor, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    close(descriptor);
    return -1;
  }
  return descriptor;
}

bool SendFrame(int descriptor, const std::string& payload) {
  std::string bytes(4, '\0');
  for (size_t i = 0; i < 4; ++i) bytes[i] = static_cast<char>(payload.size() >> (8 * i));
  bytes += payload;
  return send(descriptor, bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
         static_cast<ssize_t>(bytes.size());
}

bool ReceiveFrame(int descriptor, v1::DaemonFrame* frame, int* attached) {
  *attached = -1;
  std::string bytes;
  size_t wanted = 4;
  while (bytes.size() < wanted) {
    char buffer[4096];
    iovec piece{buffer, std::min(sizeof(buffer), wanted - bytes.size())};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    const ssize_t got = recvmsg(descriptor, &message, MSG_CMSG_CLOEXEC);
    if (got <= 0) return false;
    if (cmsghdr* header = CMSG_FIRSTHDR(&message)) {
      std::memcpy(attached, CMSG_DATA(header), sizeof(int));
    }
    bytes.append(buffer, static_cast<size_t>(got));
    if (bytes.size() == 4) {
      uint32_t length = 0;
      std::memcpy(&length, bytes.data(), 4);
      wanted += length;
    }
  }
  return frame->ParseFromString(bytes.substr(4));
}

SessionClient::SessionClient(const std::string& socket_path) {
  descriptor_ = ConnectSocket(socket_path);
  v1::ClientFrame hello;
  hello.mutable_hello()->set_protocol_version(1);
  hello.mutable_hello()->set_client_name("test");
  v1::DaemonFrame answer;
  int attached = -1;
  if (descriptor_ < 0 || !SendFrame(descriptor_, hello.SerializeAsString()) ||
      !ReceiveFrame(descriptor_, &answer, &attached) || !answer.has_welcome()) {
    std::fprintf(stderr, "no welcome from %s\n", socket_path.c_str());
    std::abort();
  }
  welcome_ = answer.welcome();
  token_ = welcome_.session_token();
  thread_ = std::thread([this] { Run(); });
}

SessionClient::~SessionClient() {
  Close();
  if (thread_.joinable()) thread_.join();
  close(descriptor_);
  MutexLock lock(mutex_);
  for (auto& [id, file] : files_) {
    if (file.mapping != nullptr) munmap(file.mapping, file.length);
    if (file.descriptor >= 0) close(file.descriptor);
  }
}

void SessionClient::Close() { shutdown(descriptor_, SHUT_RDWR); }

void SessionClient::Run() {
  v1::DaemonFrame frame;
  int attached = -1;
  while (ReceiveFrame(descriptor_, &frame, &attached)) {
    MutexLock lock(mutex_);
    if (frame.has_grant()) {
      File file;
      file.descriptor = attached;
      file.length = frame.grant().length();
      if (frame.grant().access() == v1::FILE_ACCESS_STAGING) {
        void* mapping = mmap(nullptr, file.length, PROT_READ | PROT_WRITE, MAP_SHARED, attached, 0);
        if (mapping != MAP_FAILED) file.mapping = static_cast<char*>(mapping);
      }
      files_[frame.grant().file_id()] = file;
    } else if (frame.has_revoke()) {
      revoked_.push_back(frame.revoke().file_id());
      if (answer_) {
        Answer(frame.revoke().file_id());
      } else {
        unanswered_.push_back(frame.revoke().file_id());
      }
    }
    changed_.NotifyAll();
  }
}

void SessionClient::Answer(const std::string& file_id) {
  auto found = files_.find(file_id);
  if (found != files_.end()) {
    if (found->second.mapping != nullptr) munmap(found->second.mapping, found->second.length);
    close(found->second.descriptor);
    files_.erase(found);
  }
  v1::ClientFrame frame;
  frame.mutable_unmapped()->set_file_id(file_id);
  SendFrame(descriptor_, frame.SerializeAsString());
}

SessionClient::File SessionClient::Granted(const std::string& file_id) {
  MutexLock lock(mutex_);
  while (!files_.contains(file_id)) changed_.Wait(mutex_);
  return files_[file_id];
}

size_t SessionClient::granted_count() {
  MutexLock lock(mutex_);
  return files_.size();
}

void SessionClient::AnswerRevocations(bool answer) {
  MutexLock lock(mutex_);
  answer_ = answer;
}

std::vector<std::string> SessionClient::revoked() {
  MutexLock lock(mutex_);
  return revoked_;
}

void SessionClient::AwaitRevoked(size_t count) {
  MutexLock lock(mutex_);
  while (revoked_.size() < count) changed_.Wait(mutex_);
}

void SessionClient::AnswerNow() {
  MutexLock lock(mutex_);
  for (const std::string& id : unanswered_) Answer(id);
  unanswered_.clear();
}

}  // namespace ckpt
