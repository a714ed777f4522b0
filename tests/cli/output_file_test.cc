#include "client/cli/output_file.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <vector>

#include "gtest/gtest.h"
#include "tests/fixtures/daemon.h"
#include "tests/fixtures/process.h"

namespace ckpt::cli {
namespace {

using ckpt::testing::ReadWholeFile;
using ckpt::testing::ScratchFolder;

size_t FilesIn(const ScratchFolder& folder) {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    ++count;
  }
  return count;
}

TEST(OutputFile, AppearsOnlyWhenPublished) {
  ScratchFolder folder;
  absl::StatusOr<OutputFile> file = OutputFile::Create(folder / "out", false);
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_TRUE(file->WriteAt(0, "hello ").ok());
  ASSERT_TRUE(file->WriteAt(6, "world").ok());
  ASSERT_TRUE(file->SyncAndClose().ok());
  EXPECT_FALSE(std::filesystem::exists(folder / "out"));
  ASSERT_TRUE(file->Publish().ok());
  EXPECT_EQ(ReadWholeFile(folder / "out"), "hello world");
  EXPECT_EQ(FilesIn(folder), 1u);
}

TEST(OutputFile, AbandonedLeavesNothing) {
  ScratchFolder folder;
  {
    absl::StatusOr<OutputFile> file = OutputFile::Create(folder / "out", false);
    ASSERT_TRUE(file.ok());
    ASSERT_TRUE(file->WriteAt(0, "x").ok());
  }
  EXPECT_EQ(FilesIn(folder), 0u);
}

TEST(OutputFile, NeverReplacesWhatExistsUnlessTold) {
  ScratchFolder folder;
  std::ofstream(folder / "out") << "old";
  EXPECT_TRUE(absl::IsAlreadyExists(OutputFile::Create(folder / "out", false).status()));
  absl::StatusOr<OutputFile> file = OutputFile::Create(folder / "out", true);
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_TRUE(file->WriteAt(0, "new").ok());
  EXPECT_EQ(ReadWholeFile(folder / "out"), "old");
  ASSERT_TRUE(file->Publish().ok());
  EXPECT_EQ(ReadWholeFile(folder / "out"), "new");
}

TEST(OutputFile, OnlyARegularFileIsReplaced) {
  ScratchFolder folder;
  std::ofstream(folder / "file") << "old";
  ASSERT_EQ(mkfifo((folder / "fifo").c_str(), 0600), 0);
  ASSERT_EQ(symlink("file", (folder / "link").c_str()), 0);
  ASSERT_EQ(symlink("nothing", (folder / "dangling").c_str()), 0);
  for (const char* name : {"fifo", "link", "dangling"}) {
    for (const bool replace : {false, true}) {
      const absl::Status status = OutputFile::Create(folder / name, replace).status();
      EXPECT_TRUE(absl::IsInvalidArgument(status)) << name << status;
    }
  }
  EXPECT_TRUE(absl::IsInvalidArgument(OutputFile::Create("/dev/null", true).status()));
  EXPECT_TRUE(absl::IsAlreadyExists(OutputFile::Create(folder.path(), true).status()));
  EXPECT_EQ(FilesIn(folder), 4u);
}

TEST(OutputFile, WhatAppearedMeanwhileIsNotReplacedEither) {
  ScratchFolder folder;
  absl::StatusOr<OutputFile> file = OutputFile::Create(folder / "out", false);
  ASSERT_TRUE(file.ok());
  std::ofstream(folder / "out") << "somebody else's";
  EXPECT_TRUE(absl::IsAlreadyExists(file->Publish()));
  EXPECT_EQ(ReadWholeFile(folder / "out"), "somebody else's");
  absl::StatusOr<OutputFile> forced = OutputFile::Create(folder / "forced", true);
  ASSERT_TRUE(forced.ok());
  ASSERT_EQ(mkfifo((folder / "forced").c_str(), 0600), 0);
  EXPECT_TRUE(absl::IsInvalidArgument(forced->Publish()));
  EXPECT_TRUE(std::filesystem::is_fifo(folder / "forced"));
}

TEST(OutputFile, KeepsNoDescriptorWhileItWaitsToBePublished) {
  ScratchFolder folder;
  std::vector<OutputFile> files;
  int lowest[2];
  for (int& descriptor : lowest) {
    descriptor = dup(STDERR_FILENO);
    close(descriptor);
    absl::StatusOr<OutputFile> file = OutputFile::Create(folder / "out", false);
    ASSERT_TRUE(file.ok()) << file.status();
    ASSERT_TRUE(file->SyncAndClose().ok());
    files.push_back(*std::move(file));
  }
  EXPECT_EQ(lowest[0], lowest[1]);
}

TEST(OutputFileDeathTest, ASignalLeavesNothingAndStillEndsTheProcess) {
  ScratchFolder folder;
  for (const int signal : {SIGINT, SIGTERM}) {
    EXPECT_EXIT(
        {
          const std::string made = folder / "made";
          mkdir(made.c_str(), 0777);
          UnfinishedPath unfinished(made);
          std::vector<OutputFile> files;
          files.push_back(*OutputFile::Create(made + "/a", false));
          files.push_back(*OutputFile::Create(folder / "b", false));
          files.push_back(*OutputFile::Create(folder / "published", true));
          if (!files.back().Publish().ok()) _exit(1);
          raise(signal);
        },
        ::testing::KilledBySignal(signal), "");
    EXPECT_FALSE(std::filesystem::exists(folder / "made"));
    EXPECT_TRUE(std::filesystem::exists(folder / "published"));
    EXPECT_EQ(FilesIn(folder), 1u);
  }
}

TEST(OutputFile, MissingFolderIsSaid) {
  ScratchFolder folder;
  EXPECT_TRUE(absl::IsNotFound(OutputFile::Create(folder / "none/out", false).status()));
}

TEST(CheckRoom, RefusesWhatCannotFit) {
  ScratchFolder folder;
  EXPECT_TRUE(CheckRoom(folder.path(), 1).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(CheckRoom(folder.path(), uint64_t{1} << 60)));
}

}  // namespace
}  // namespace ckpt::cli
