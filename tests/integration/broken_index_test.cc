// An index that takes no more writes: the log of RocksDB could not be written. What the daemon would
// answer from then on would be of a moment that has passed.
#include <sys/resource.h>

#include <filesystem>

#include "absl/strings/match.h"
#include "tests/integration/integration_test.h"

namespace ckpt::testing {
namespace {

class BrokenIndex : public IntegrationTest {
 protected:
  // The log is long, so that every other file of a small checkpoint is shorter.
  void SetUp() override {
    StartDaemon({.flags = {"--persist-delay=3s"}});
    CKPT_ASSERT_OK(SaveCommitted(id_, state_, 1));
    for (int i = 0; i < 120; ++i) CKPT_ASSERT_OK(Note(std::string(1000, 'x')));
  }
  absl::Status Note(const std::string& note) {
    v1::AnnotateCheckpointRequest request;
    *request.mutable_selector() = *ParseSelector("run@1");
    request.set_note(note);
    grpc::ClientContext context;
    v1::AnnotateCheckpointResponse info;
    const grpc::Status told =
        v1::CatalogService::NewStub(channel())->AnnotateCheckpoint(&context, request, &info);
    return absl::Status(static_cast<absl::StatusCode>(told.error_code()), told.error_message());
  }
  // No file of the daemon's may grow past the log's next byte.
  void LetTheLogGrowNoMore() {
    uint64_t bytes = 0;
    for (const auto& file : std::filesystem::directory_iterator(daemon().data_folder() + "/index")) {
      if (file.path().extension() == ".log") bytes = std::max<uint64_t>(bytes, file.file_size());
    }
    ASSERT_GT(bytes, 100'000u);
    const rlimit limit{bytes + 1, RLIM_INFINITY};
    ASSERT_EQ(prlimit(daemon().pid(), RLIMIT_FSIZE, &limit, nullptr), 0);
  }
  void AwaitEnd() {
    const absl::StatusOr<int> ended = daemon().AwaitExit();
    ASSERT_TRUE(ended.ok()) << ended.status();
    EXPECT_EQ(*ended, 1);
    EXPECT_THAT(daemon().Log(), ::testing::HasSubstr("the index takes no more writes"));
  }

  const CheckpointId id_ = NewId("run", 1);
  const TestState state_ = TestState::Plain(1, 10'000);
};

TEST_F(BrokenIndex, EndsTheDaemonAndTheNextOneGoesOn) {
  LetTheLogGrowNoMore();
  EXPECT_FALSE(Note("this one is lost, or not").ok());
  AwaitEnd();
  CKPT_ASSERT_OK(daemon().Restart());
  CKPT_EXPECT_OK(Check("run@1", state_));
  CKPT_EXPECT_OK(Note("and this one is not"));
}

// A commit that the index did not take: nobody is told of it before it can be found.
TEST_F(BrokenIndex, ACheckpointThatWasJustCommittedIsThereWhenItIsSaidToBe) {
  const TestState newer = TestState::Plain(2, 10'000);
  std::vector<SaveHandle> saves =
      StartSaves({id_.run, 2, id_.incarnation}, newer, /*world_size=*/1);
  CKPT_ASSERT_OK(saves[0].AwaitStaged(absl::Seconds(60)));
  LetTheLogGrowNoMore();
  AwaitEnd();
  CKPT_ASSERT_OK(daemon().Restart());
  CKPT_EXPECT_OK(saves[0].AwaitCommitted(absl::Seconds(60)));
  CKPT_EXPECT_OK(Check("run@latest", newer));
}

}  // namespace
}  // namespace ckpt::testing
