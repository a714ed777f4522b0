// No room on the disk: known before a byte is accepted where it can be, survived where it can't.
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "tests/fixtures/small_disk.h"
#include "tests/integration/integration_test.h"

namespace ckpt::testing {
namespace {

class DiskFull : public IntegrationTest {};

TEST_F(DiskFull, APartBiggerThanTheDiskIsRefusedBeforeAByteIsWritten) {
  SmallDisk disk(64);
  CKPT_NEED_DISK(disk);
  StartDaemon({.data_folder = disk / "data"});
  const size_t files = daemon().DataFiles().size();
  for (SaveHandle& save : StartSaves(NewId("big", 1), TestState::Plain(1, 100 * kMiB), 1)) {
    CKPT_EXPECT_ERROR(save.AwaitStaged(absl::Seconds(60)), absl::StatusCode::kResourceExhausted,
                      "disk");
    EXPECT_EQ(save.Progress().bytes_copied, 0u);
  }
  EXPECT_EQ(daemon().DataFiles().size(), files);
  CKPT_ASSERT_OK(SaveCommitted(NewId("small", 1), TestState::Plain(2, 5 * kMiB), 1));
  CKPT_EXPECT_OK(Check("small@1", TestState::Plain(2, 5 * kMiB)));
}

TEST_F(DiskFull, SavesAtTheSameTimeDoNotPromiseTheSameRoomTwice) {
  SmallDisk disk(90);  // two parts and the index's log, not three parts
  CKPT_NEED_DISK(disk);
  StartDaemon({.flags = {"--persist-delay=1s"}, .data_folder = disk / "data"});
  int committed = 0;
  std::string refusals;
  std::vector<std::unique_ptr<Client>> clients;
  std::vector<SaveHandle> saves;
  for (uint64_t i = 0; i < 3; ++i) {
    clients.push_back(Connect());
    absl::StatusOr<SaveHandle> save = clients.back()->Save(
        NewId(absl::StrCat("run", i), 1), MakeTestPart(TestState::Plain(i, 25 * kMiB), 0, 1), {});
    ASSERT_TRUE(save.ok()) << save.status();
    saves.push_back(*save);
  }
  for (size_t i = 0; i < saves.size(); ++i) {
    const absl::Status status = saves[i].AwaitCommitted(absl::Seconds(60));
    if (status.ok()) {
      ++committed;
      CKPT_EXPECT_OK(Check(absl::StrCat("run", i, "@1"), TestState::Plain(i, 25 * kMiB)));
    } else {
      EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
      absl::StrAppend(&refusals, status.ToString(), "\n");
    }
  }
  EXPECT_EQ(committed, 2) << refusals;
}

TEST_F(DiskFull, TheDiskFillsUpUnderTheWriter) {
  SmallDisk disk(64);
  CKPT_NEED_DISK(disk);
  StartDaemon({.flags = {"--persist-delay=1s"}, .data_folder = disk / "data"});
  CKPT_ASSERT_OK(SaveCommitted(NewId("before", 1), TestState::Plain(1, 5 * kMiB), 1));
  auto saves = StartSaves(NewId("run", 1), TestState::Plain(2, 30 * kMiB), 1);
  CKPT_ASSERT_OK(saves[0].AwaitStaged(absl::Seconds(60)));
  disk.Fill();  // somebody else takes the room after it was reserved
  const absl::Status status = saves[0].AwaitCommitted(absl::Seconds(60));
  EXPECT_TRUE(absl::IsAborted(status) || absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(CommittedSteps("run"), ::testing::IsEmpty());
  // What is there is there, nothing is left of the failed one, and the next one fits again.
  CKPT_EXPECT_OK(Check("before@1", TestState::Plain(1, 5 * kMiB)));
  disk.GiveRoom();
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 2), TestState::Plain(3, 30 * kMiB), 1));
  CKPT_EXPECT_OK(Check("run@latest", TestState::Plain(3, 30 * kMiB)));
}

TEST_F(DiskFull, WritesThatFailInTheMiddle) {
  // The kernel refuses every byte of a file past this one (EFBIG), in the middle of a data file.
  StartDaemon({.memory_budget = "32MiB", .file_bytes_max = 40 * kMiB});
  CKPT_ASSERT_OK(SaveCommitted(NewId("before", 1), TestState::Plain(1, 5 * kMiB), 1));
  auto saves = StartSaves(NewId("huge", 1), TestState::Plain(2, 60 * kMiB), 1,
                          {.on_full = v1::ON_FULL_RING});
  for (SaveHandle& save : saves) {
    EXPECT_FALSE(save.AwaitCommitted(absl::Seconds(60)).ok());
  }
  EXPECT_THAT(CommittedSteps("huge"), ::testing::IsEmpty());
  CKPT_EXPECT_OK(Check("before@1", TestState::Plain(1, 5 * kMiB)));
  CKPT_ASSERT_OK(SaveCommitted(NewId("after", 1), TestState::Plain(3, 5 * kMiB), 1));
  CKPT_EXPECT_OK(Check("after@1", TestState::Plain(3, 5 * kMiB)));
}

// Full of somebody else's bytes: what is there is served, and can be deleted, whatever is killed.
TEST_F(DiskFull, ADaemonStartsAndDeletesOnADiskThatOthersHaveFilled) {
  SmallDisk disk(544);  // of which a sixteenth is ballast
  CKPT_NEED_DISK(disk);
  StartDaemon({.data_folder = disk / "data"});
  const CheckpointId first = NewId("run", 1);
  CKPT_ASSERT_OK(SaveCommitted(first, TestState::Plain(1, 5 * kMiB), 1));
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 2), TestState::Plain(2, 5 * kMiB), 1));
  for (int i = 0; i < 3; ++i) {
    daemon().Kill();
    disk.Fill();
    CKPT_ASSERT_OK(daemon().Restart());
    CKPT_EXPECT_OK(Check("run@1", TestState::Plain(1, 5 * kMiB)));
  }
  disk.Fill();
  CKPT_EXPECT_OK(calls().Delete(first));
  daemon().Kill();
  disk.Fill();
  CKPT_ASSERT_OK(daemon().Restart());
  EXPECT_THAT(CommittedSteps("run"), ::testing::ElementsAre(2));
  disk.GiveRoom();
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 3), TestState::Plain(3, 5 * kMiB), 1));
}

// What is kept free and the ballast are one: a part is not refused for it, nor left where it is.
TEST_F(DiskFull, ThePartThatNeedsTheBallastsRoomGetsIt) {
  SmallDisk disk(128);
  CKPT_NEED_DISK(disk);
  StartDaemon({.flags = {"--persist-delay=1s"}, .data_folder = disk / "data"});
  CKPT_ASSERT_OK(SaveCommitted(NewId("before", 1), TestState::Plain(1, kMiB), 1));
  const std::string ballast = disk / "data/BALLAST";
  std::error_code error;
  CKPT_ASSERT_OK(Eventually(
      "ballast", [&] { return std::filesystem::file_size(ballast, error) == 8 * kMiB && !error; }));
  const uint64_t room = std::filesystem::space(disk / "data").available + 8 * kMiB;
  const TestState state = TestState::Plain(2, (room - 8 * kMiB) / 129 * 128);
  std::vector<SaveHandle> saves = StartSaves(NewId("run", 1), state, 1);
  CKPT_ASSERT_OK(saves[0].AwaitStaged(absl::Seconds(60)));
  EXPECT_LT(std::filesystem::file_size(ballast, error), 8 * kMiB);
  daemon().Kill();
  CKPT_ASSERT_OK(daemon().Restart());
  CKPT_ASSERT_OK(saves[0].AwaitCommitted(absl::Seconds(60)));
  CKPT_EXPECT_OK(Check("run@1", state));
}

// Header and manifest take more than the promise allows for: what is kept free is for that.
TEST_F(DiskFull, APartOfManyTensorsHasRoomForItsManifest) {
  SmallDisk disk(128);
  CKPT_NEED_DISK(disk);
  StartDaemon({.data_folder = disk / "data"});
  CKPT_ASSERT_OK(SaveCommitted(NewId("before", 1), TestState::Plain(1, kMiB), 1));
  std::error_code error;
  CKPT_ASSERT_OK(Eventually("ballast", [&] {
    return std::filesystem::file_size(disk / "data/BALLAST", error) == 8 * kMiB && !error;
  }));
  constexpr uint64_t kTensors = 25'000;
  const uint64_t room = std::filesystem::space(disk / "data").available + 8 * kMiB;
  TestState state;
  for (uint64_t i = 0; i < kTensors; ++i) {
    state.tensors.push_back({absl::StrCat("tensor", i),
                             v1::DTYPE_U8,
                             {(room - 6 * kMiB) / 129 * 128 / kTensors / 64 * 64},
                             v1::PLACEMENT_SHARDED});
  }
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 1), state, 1));
  CKPT_EXPECT_OK(Check("run@1", state));
}

}  // namespace
}  // namespace ckpt::testing
