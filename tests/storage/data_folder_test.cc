#include "server/storage/data_folder.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/storage/names.h"
#include "tests/persist/persist_fixture.h"

namespace ckpt {
namespace {

using testing::HasSubstr;

void WriteText(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

class DataFolderTest : public testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<DataFolder>> Open() {
    return DataFolder::Open(PosixFileSystem(), path_);
  }
  v1::CheckpointManifest Manifest(CheckpointUid uid) {
    v1::CheckpointManifest manifest;
    manifest.set_format_version(1);
    *manifest.mutable_id() = IdOf("r", 1).ToProto();
    manifest.set_checkpoint_uid(uid.bytes());
    manifest.set_world_size(1);
    manifest.add_share(0);
    manifest.add_parts()->set_manifest_id(FileId::Random().bytes());
    return manifest;
  }
  TemporaryFolder folder_;
  const std::string path_ = folder_.path() + "/data";
};

TEST_F(DataFolderTest, IsMadeAndOpenedAgain) {
  ASSERT_TRUE(Open().ok());
  EXPECT_EQ(*PosixFileSystem()->ReadWhole(path_ + "/FORMAT"), "ckptd data folder, format 1\n");
  struct stat status;
  ASSERT_EQ(stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700u);
  auto again = Open();
  EXPECT_TRUE(again.ok()) << again.status();
}

TEST_F(DataFolderTest, ASecondOneIsRefusedAndNamesTheHolder) {
  auto first = Open();
  ASSERT_TRUE(first.ok());
  auto second = Open();
  ASSERT_TRUE(absl::IsFailedPrecondition(second.status())) << second.status();
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(absl::StrCat(getpid())));
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("in use"));
  first->reset();
  EXPECT_TRUE(Open().ok());
}

TEST_F(DataFolderTest, TheLockOfAKilledProcessIsGoneWithIt) {
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    auto held = Open();
    const char byte = held.ok() ? 'y' : 'n';
    if (write(ready[1], &byte, 1) != 1) _exit(1);
    pause();
  }
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  ASSERT_EQ(byte, 'y');
  EXPECT_TRUE(absl::IsFailedPrecondition(Open().status()));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_TRUE(Open().ok());
  close(ready[0]);
  close(ready[1]);
}

TEST_F(DataFolderTest, ANewerFormatIsRefusedADamagedOneToo) {
  ASSERT_TRUE(Open().ok());
  WriteText(path_ + "/FORMAT", "ckptd data folder, format 2\n");
  auto newer = Open();
  EXPECT_TRUE(absl::IsFailedPrecondition(newer.status())) << newer.status();
  EXPECT_THAT(std::string(newer.status().message()), HasSubstr("newer"));
  WriteText(path_ + "/FORMAT", "hello\n");
  EXPECT_TRUE(absl::IsDataLoss(Open().status()));
}

TEST_F(DataFolderTest, SomebodyElsesFolderIsRefusedUntouched) {
  std::filesystem::create_directory(path_);
  WriteText(path_ + "/thesis.txt", "precious");
  auto opened = Open();
  EXPECT_TRUE(absl::IsInvalidArgument(opened.status())) << opened.status();
  EXPECT_THAT(std::string(opened.status().message()), HasSubstr("thesis.txt"));
  EXPECT_THAT(*PosixFileSystem()->List(path_), testing::ElementsAre("thesis.txt"));
}

TEST_F(DataFolderTest, AFreshlyMadeFileSystemIsEmptyEnough) {
  std::filesystem::create_directories(path_ + "/lost+found");
  EXPECT_TRUE(Open().ok());
}

TEST_F(DataFolderTest, AMissingParentIsSaid) {
  auto opened = DataFolder::Open(PosixFileSystem(), folder_.path() + "/no/such/folder");
  EXPECT_FALSE(opened.ok());
  EXPECT_THAT(std::string(opened.status().message()), HasSubstr("cannot make the data folder"));
}

TEST_F(DataFolderTest, OpenExistingMakesNothing) {
  EXPECT_TRUE(absl::IsNotFound(DataFolder::OpenExisting(PosixFileSystem(), path_).status()));
  EXPECT_FALSE(std::filesystem::exists(path_));
  std::filesystem::create_directory(path_);
  EXPECT_TRUE(absl::IsNotFound(DataFolder::OpenExisting(PosixFileSystem(), path_).status()));
  EXPECT_TRUE(std::filesystem::is_empty(path_));
}

TEST_F(DataFolderTest, PartialsAreRemovedAtStart) {
  ASSERT_TRUE(Open().ok());
  const std::string data = names::DataFile(FileId::Random());
  WriteText(path_ + "/objects/" + names::Partial(data), "x");
  WriteText(path_ + "/objects/" + data, "x");
  WriteText(path_ + "/checkpoints/" + names::Partial("y.checkpoint"), "x");
  auto folder = Open();
  ASSERT_TRUE(folder.ok());
  EXPECT_EQ((*folder)->ListObjects()->data_files.size(), 1u);
  EXPECT_THAT(*PosixFileSystem()->List(path_ + "/checkpoints"), testing::IsEmpty());
}

TEST_F(DataFolderTest, AManifestIsPublishedOnceAndNeverOverwritten) {
  auto folder = Open();
  ASSERT_TRUE(folder.ok());
  const CheckpointUid uid = CheckpointUid::TimeOrdered();
  const v1::CheckpointManifest manifest = Manifest(uid);
  absl::Status published = (*folder)->PublishCheckpointManifest(manifest);
  ASSERT_TRUE(published.ok()) << published;
  EXPECT_TRUE(absl::IsAlreadyExists((*folder)->PublishCheckpointManifest(manifest)));
  EXPECT_EQ((*folder)->ReadCheckpointManifest(uid)->SerializeAsString(),
            manifest.SerializeAsString());
  EXPECT_THAT(*(*folder)->ListCheckpointManifests(), testing::ElementsAre(uid));
  ASSERT_TRUE((*folder)->RemoveCheckpointManifest(uid).ok());
  EXPECT_TRUE((*folder)->RemoveCheckpointManifest(uid).ok());
  EXPECT_TRUE(absl::IsNotFound((*folder)->ReadCheckpointManifest(uid).status()));
}

TEST_F(DataFolderTest, AManifestUnderAnotherNameIsDataLoss) {
  auto folder = Open();
  ASSERT_TRUE(folder.ok());
  const CheckpointUid uid = CheckpointUid::TimeOrdered();
  const CheckpointUid other = CheckpointUid::TimeOrdered();
  ASSERT_TRUE((*folder)->PublishCheckpointManifest(Manifest(uid)).ok());
  std::filesystem::rename(path_ + "/checkpoints/" + names::CheckpointManifest(uid),
                          path_ + "/checkpoints/" + names::CheckpointManifest(other));
  EXPECT_TRUE(absl::IsDataLoss((*folder)->ReadCheckpointManifest(other).status()));
}

TEST_F(DataFolderTest, LabelsAreReplacedAsAWhole) {
  auto folder = Open();
  ASSERT_TRUE(folder.ok());
  const CheckpointUid uid = CheckpointUid::TimeOrdered();
  EXPECT_EQ((*folder)->ReadLabels(uid)->ByteSizeLong(), 0u);
  v1::Labels labels;
  labels.add_tags("a");
  labels.set_note("first");
  ASSERT_TRUE((*folder)->WriteLabels(uid, labels).ok());
  labels.clear_tags();
  labels.set_note("second");
  ASSERT_TRUE((*folder)->WriteLabels(uid, labels).ok());
  EXPECT_EQ((*folder)->ReadLabels(uid)->SerializeAsString(), labels.SerializeAsString());
  FlipByte(path_ + "/checkpoints/" + names::Labels(uid), 25);
  EXPECT_TRUE(absl::IsDataLoss((*folder)->ReadLabels(uid).status()));
}

TEST_F(DataFolderTest, PinsHoldAFileAndEndWithIt) {
  auto folder = Open();
  ASSERT_TRUE(folder.ok());
  const FileId id = FileId::Random();
  EXPECT_TRUE(absl::IsNotFound((*folder)->Pin(id).status()));
  WriteText(path_ + "/objects/" + names::DataFile(id), "x");
  auto pin = (*folder)->Pin(id);
  ASSERT_TRUE(pin.ok());
  DataFolder::FilePin moved = *std::move(pin);
  ASSERT_TRUE((*folder)->DeleteDataFile(id).ok());
  ASSERT_TRUE((*folder)->DeleteDataFile(id).ok());
  EXPECT_TRUE((*folder)->OpenDataFile(id).ok());
  EXPECT_TRUE(absl::IsNotFound((*folder)->Pin(id).status()));
  moved = DataFolder::FilePin();
  EXPECT_TRUE(absl::IsNotFound((*folder)->OpenDataFile(id).status()));
  EXPECT_TRUE((*folder)->DeleteDataFile(id).ok());
  EXPECT_TRUE((*folder)->DeletePartManifest(id).ok());
}

// Found by the crash points: the folder's own name was never synced, and a power cut took all of
// it.
TEST_F(DataFolderTest, TheNameOfANewFolderSurvivesAPowerCut) {
  const TemporaryFolder shadow;
  FaultyFileSystem files(shadow.path());
  ASSERT_TRUE(DataFolder::Open(&files, path_).ok());
  files.PowerLoss();
  EXPECT_TRUE(std::filesystem::exists(path_ + "/FORMAT"));
  EXPECT_TRUE(DataFolder::OpenExisting(&files, path_).ok());
}

TEST_F(DataFolderTest, RemovesWhatARebuiltIndexHasLeft) {
  ASSERT_TRUE(Open().ok());
  for (const std::string name : {"/index.rebuild", "/index.replaced"}) {
    std::filesystem::create_directory(path_ + name);
    WriteText(path_ + name + "/CURRENT", "MANIFEST-000001");
  }
  ASSERT_TRUE(Open().ok());
  EXPECT_FALSE(std::filesystem::exists(path_ + "/index.rebuild"));
  EXPECT_FALSE(std::filesystem::exists(path_ + "/index.replaced"));
}

}  // namespace
}  // namespace ckpt
