// The real file system, and what is built on the interface, on a real disk.
#include <fcntl.h>
#include <sys/stat.h>

#include <cstdlib>
#include <cstring>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/persist/persist_fixture.h"

namespace ckpt {
namespace {

class PosixFiles : public testing::Test {
 protected:
  TemporaryFolder folder_{TemporaryFolder::kDisk};
  const std::string path_ = folder_.path() + "/file";
  FileSystem& files_ = *PosixFileSystem();
};

TEST_F(PosixFiles, WritesAndReadsBack) {
  auto file = files_.Create(path_, {});
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_TRUE((*file)->WriteAt(3, "defg", 4).ok());
  ASSERT_TRUE((*file)->WriteAt(0, "abc", 3).ok());
  ASSERT_TRUE((*file)->Truncate(6).ok());
  ASSERT_TRUE((*file)->Sync().ok());
  ASSERT_TRUE((*file)->Close().ok());
  EXPECT_EQ(*files_.ReadWhole(path_), "abcdef");
  struct stat status;
  ASSERT_EQ(stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
}

TEST_F(PosixFiles, DirectFilesTakeAlignedWritesOnly) {
  auto file = files_.Create(path_, {.direct = true, .preallocate_bytes = 8192});
  ASSERT_TRUE(file.ok()) << file.status();
  void* buffer = nullptr;
  ASSERT_EQ(posix_memalign(&buffer, 4096, 8192), 0);
  memset(buffer, 'x', 8192);
  EXPECT_TRUE((*file)->WriteAt(4096, buffer, 4096).ok());
  EXPECT_TRUE((*file)->WriteAt(0, buffer, 4096).ok());
  EXPECT_TRUE((*file)->Truncate(5000).ok());
  EXPECT_TRUE((*file)->Sync().ok());
  EXPECT_EQ(*files_.ReadWhole(path_), std::string(5000, 'x'));
  free(buffer);
}

TEST_F(PosixFiles, NeverCreateOverAFile) {
  ASSERT_TRUE(files_.Create(path_, {}).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(files_.Create(path_, {}).status()));
}

TEST_F(PosixFiles, PreallocationBeyondTheDiskIsRefusedAndLeavesNoFile) {
  auto file = files_.Create(path_, {.preallocate_bytes = uint64_t{1} << 60});
  EXPECT_TRUE(absl::IsResourceExhausted(file.status())) << file.status();
  EXPECT_TRUE(absl::IsNotFound(files_.OpenRead(path_).status()));
}

TEST_F(PosixFiles, AShortFileIsDataLossAndNamesItself) {
  ASSERT_TRUE(files_.WriteDurably(folder_.path(), "file.partial", "file", "abc").ok());
  auto file = files_.OpenRead(path_);
  ASSERT_TRUE(file.ok());
  char out[8];
  absl::Status status = (*file)->ReadAt(1, out, 5);
  EXPECT_TRUE(absl::IsDataLoss(status));
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr(path_));
  EXPECT_EQ((*file)->size(), 3u);
  EXPECT_NE(fcntl((*file)->descriptor(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST_F(PosixFiles, SayWhatIsMissing) {
  EXPECT_TRUE(absl::IsNotFound(files_.OpenRead(path_).status()));
  EXPECT_TRUE(absl::IsNotFound(files_.Unlink(path_)));
  EXPECT_TRUE(absl::IsNotFound(files_.Rename(path_, path_ + "2")));
  EXPECT_TRUE(absl::IsNotFound(files_.List(path_).status()));
  EXPECT_FALSE(files_.OpenRead(folder_.path()).ok());  // a folder is no file
}

TEST_F(PosixFiles, FoldersAreMadeOnceAndListed) {
  ASSERT_TRUE(files_.MakeFolder(path_).ok());
  EXPECT_TRUE(files_.MakeFolder(path_).ok());
  ASSERT_TRUE(files_.Create(path_ + "/a", {}).ok());
  EXPECT_THAT(*files_.List(path_), testing::ElementsAre("a"));
  EXPECT_FALSE(files_.RemoveFolder(path_).ok());
  ASSERT_TRUE(files_.Unlink(path_ + "/a").ok());
  EXPECT_TRUE(files_.RemoveFolder(path_).ok());
  EXPECT_GT(files_.Space(folder_.path())->total_bytes, 0u);
}

TEST_F(PosixFiles, WriteDurablyReplacesAndTakesOverALeftTemporary) {
  ASSERT_TRUE(files_.Create(folder_.path() + "/file.partial", {}).ok());
  ASSERT_TRUE(files_.WriteDurably(folder_.path(), "file.partial", "file", "one").ok());
  ASSERT_TRUE(files_.WriteDurably(folder_.path(), "file.partial", "file", "").ok());
  EXPECT_EQ(*files_.ReadWhole(path_), "");
  EXPECT_THAT(*files_.List(folder_.path()), testing::ElementsAre("file"));
}

TEST_F(PosixFiles, WriteDurablySyncsBeforeItRenames) {
  ASSERT_TRUE(files_.MakeFolder(folder_.path() + "/shadow").ok());
  for (uint64_t crash = 1; crash <= 5; ++crash) {
    FaultyFileSystem faulty(folder_.path() + "/shadow");
    ASSERT_TRUE(files_.WriteDurably(folder_.path(), "file.partial", "file", "old").ok());
    faulty.CrashAt(crash);
    EXPECT_FALSE(faulty.WriteDurably(folder_.path(), "file.partial", "file", "new").ok());
    faulty.PowerLoss();
    EXPECT_EQ(*files_.ReadWhole(path_), "old") << crash;
  }
}

}  // namespace
}  // namespace ckpt
