// Over a real server: reflection answers, and idle streams of it hold a few threads for a while.
#include "server/daemon/reflection_bounds.h"

#include <unistd.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/mutex.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/generic/generic_stub.h"
#include "gtest/gtest.h"
#include "server/daemon/grpc_face.h"

namespace ckpt {
namespace {

bool ComesTrue(const std::function<bool()>& condition) {
  const absl::Time patience = absl::Now() + absl::Seconds(60);
  while (!condition() && absl::Now() < patience) absl::SleepFor(absl::Milliseconds(1));
  return condition();
}

// A stream of reflection on which the client says nothing until it asks.
class ReflectionStream final : public grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  explicit ReflectionStream(const std::shared_ptr<grpc::Channel>& channel) : stub_(channel) {
    stub_.PrepareBidiStreamingCall(
        &context_, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", {}, this);
    StartRead(&answer_);
    StartCall();
  }
  ~ReflectionStream() override {
    context_.TryCancel();
    MutexLock lock(mutex_);
    while (!ended_) changed_.Wait(mutex_);
  }
  void AskForServices() {
    const grpc::Slice list_services(std::string("\x3a\x01*"));
    question_ = grpc::ByteBuffer(&list_services, 1);
    StartWrite(&question_);
  }
  bool ended() {
    MutexLock lock(mutex_);
    return ended_;
  }
  bool answered() {
    MutexLock lock(mutex_);
    return answered_;
  }

  void OnReadDone(bool ok) override {
    MutexLock lock(mutex_);
    answered_ = ok;
  }
  void OnDone(const grpc::Status&) override {
    MutexLock lock(mutex_);
    ended_ = true;
    changed_.NotifyAll();
  }

 private:
  grpc::GenericStub stub_;
  grpc::ClientContext context_;
  grpc::ByteBuffer question_;
  grpc::ByteBuffer answer_;
  Mutex mutex_;
  CondVar changed_;
  bool answered_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

class ReflectionBoundsTest : public ::testing::Test {
 protected:
  void Start(ReflectionLimits limits) {
    GrpcFaceOptions options;
    options.socket = absl::StrCat("/tmp/ckptd-reflection-", getpid());
    options.reflection = limits;
    auto face = GrpcFace::Start(options);
    ASSERT_TRUE(face.ok()) << face.status();
    face_ = *std::move(face);
    channel_ = grpc::CreateChannel("unix:" + options.socket, grpc::InsecureChannelCredentials());
  }
  void Open(size_t count) {
    for (size_t i = 0; i < count; ++i) {
      streams_.push_back(std::make_unique<ReflectionStream>(channel_));
    }
  }
  size_t Ended() {
    size_t ended = 0;
    for (const auto& stream : streams_) ended += stream->ended() ? 1 : 0;
    return ended;
  }

  std::unique_ptr<GrpcFace> face_;
  std::shared_ptr<grpc::Channel> channel_;
  std::vector<std::unique_ptr<ReflectionStream>> streams_;
};

TEST_F(ReflectionBoundsTest, FurtherStreamsThanAFewEndAtOnceAndTheFewAreAnswered) {
  Start({.streams_max = 4, .lifetime = absl::Hours(1)});
  Open(40);
  EXPECT_TRUE(ComesTrue([&] { return Ended() == 36; })) << Ended();
  for (const auto& stream : streams_) {
    if (stream->ended()) continue;
    stream->AskForServices();
    EXPECT_TRUE(ComesTrue([&] { return stream->answered(); }));
  }
  EXPECT_EQ(Ended(), 36u);
  // Those that end make room for others.
  streams_.clear();
  EXPECT_TRUE(ComesTrue([&] {
    ReflectionStream stream(channel_);
    stream.AskForServices();
    return ComesTrue([&] { return stream.answered() || stream.ended(); }) && stream.answered();
  }));
}

TEST_F(ReflectionBoundsTest, AnIdleStreamEndsAfterAWhile) {
  Start({.streams_max = 16, .lifetime = absl::Milliseconds(100)});
  Open(3);
  EXPECT_TRUE(ComesTrue([&] { return Ended() == 3; })) << Ended();
}

}  // namespace
}  // namespace ckpt
