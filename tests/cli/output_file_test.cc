#include "client/cli/output_file.h"

#include <filesystem>
#include <fstream>

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
  ASSERT_TRUE(file->Sync().ok());
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

TEST(OutputFile, WhatAppearedMeanwhileIsNotReplacedEither) {
  ScratchFolder folder;
  absl::StatusOr<OutputFile> file = OutputFile::Create(folder / "out", false);
  ASSERT_TRUE(file.ok());
  std::ofstream(folder / "out") << "somebody else's";
  EXPECT_TRUE(absl::IsAlreadyExists(file->Publish()));
  EXPECT_EQ(ReadWholeFile(folder / "out"), "somebody else's");
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
