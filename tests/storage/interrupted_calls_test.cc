// Signals interrupt system calls; the file system goes on as if nothing had been. And which errors
// of an open or a read say that the file is damaged. This program has system calls of its own:
// armed, each fails before it does what it is asked to.
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>

#include "gtest/gtest.h"
#include "server/storage/file_system.h"
#include "tests/persist/persist_fixture.h"

namespace {

thread_local int interruptions = 0;  // so many of the next calls
thread_local int interrupted = 0;    // so many have been
thread_local int interrupt_allocations = 0;  // so many of the next ones
thread_local int read_error = 0;  // of each open and pread; 0: none

bool Interrupted() {
  if (interruptions == 0) return false;
  --interruptions;
  ++interrupted;
  errno = EINTR;
  return true;
}

bool ReadFails() {
  if (read_error != 0) errno = read_error;
  return read_error != 0;
}

}  // namespace

extern "C" {
int open(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const int mode = va_arg(rest, int);
  va_end(rest);
  return Interrupted() || ReadFails() ? -1 : static_cast<int>(syscall(SYS_openat, AT_FDCWD, path, flags, mode));
}
ssize_t pread(int fd, void* to, size_t bytes, off_t offset) {
  return Interrupted() || ReadFails() ? -1 : syscall(SYS_pread64, fd, to, bytes, offset);
}
ssize_t pwrite(int fd, const void* from, size_t bytes, off_t offset) {
  return Interrupted() ? -1 : syscall(SYS_pwrite64, fd, from, bytes, offset);
}
int ftruncate(int fd, off_t bytes) noexcept {
  return Interrupted() ? -1 : static_cast<int>(syscall(SYS_ftruncate, fd, bytes));
}
int fallocate(int fd, int mode, off_t offset, off_t bytes) {
  if (interrupt_allocations > 0) {
    --interrupt_allocations;
    errno = EINTR;
    return -1;
  }
  return static_cast<int>(syscall(SYS_fallocate, fd, mode, offset, bytes));
}
int fdatasync(int fd) { return Interrupted() ? -1 : static_cast<int>(syscall(SYS_fdatasync, fd)); }
int rename(const char* from, const char* to) noexcept {
  return Interrupted() ? -1 : static_cast<int>(syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to));
}
int unlink(const char* path) noexcept {
  return Interrupted() ? -1 : static_cast<int>(syscall(SYS_unlinkat, AT_FDCWD, path, 0));
}
int mkdir(const char* path, mode_t mode) noexcept {
  return Interrupted() ? -1 : static_cast<int>(syscall(SYS_mkdirat, AT_FDCWD, path, mode));
}
int rmdir(const char* path) noexcept {
  return Interrupted() ? -1 : static_cast<int>(syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR));
}
int fsync(int fd) { return Interrupted() ? -1 : static_cast<int>(syscall(SYS_fsync, fd)); }
}

namespace ckpt {
namespace {

template <typename Call>
auto Twice(Call call) {
  interruptions = 2;
  interrupted = 0;
  auto result = call();
  interruptions = 0;
  EXPECT_GE(interrupted, 2) << "the call was not interrupted: this shows nothing";
  return result;
}

TEST(PosixFileSystem, AnInterruptedCallIsMadeAgain) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/file";
  FileSystem& files = *PosixFileSystem();
  auto file = Twice([&] { return files.Create(path, {}); });
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE(Twice([&] { return (*file)->WriteAt(0, "bytes", 5); }).ok());
  EXPECT_TRUE(Twice([&] { return (*file)->Truncate(4); }).ok());
  EXPECT_TRUE(Twice([&] { return (*file)->Sync(); }).ok());
  EXPECT_TRUE((*file)->Close().ok());
  EXPECT_TRUE(Twice([&] { return files.SyncFolder(folder.path()); }).ok());
  auto readable = Twice([&] { return files.OpenRead(path); });
  ASSERT_TRUE(readable.ok()) << readable.status();
  char text[4];
  EXPECT_TRUE(Twice([&] { return (*readable)->ReadAt(0, text, 4); }).ok());
  EXPECT_EQ(std::string(text, 4), "byte");
  EXPECT_TRUE(Twice([&] { return files.Rename(path, path + "2"); }).ok());
  EXPECT_TRUE(Twice([&] { return files.Unlink(path + "2"); }).ok());
  EXPECT_TRUE(Twice([&] { return files.MakeFolder(path); }).ok());
  EXPECT_TRUE(Twice([&] { return files.RemoveFolder(path); }).ok());
}

// The open of a file takes the first interruptions, its allocation one that comes later.
TEST(PosixFileSystem, AnInterruptedAllocationIsMadeAgain) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/file";
  interrupt_allocations = 2;
  auto file = PosixFileSystem()->Create(path, {.direct = false, .preallocate_bytes = 8192});
  EXPECT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(interrupt_allocations, 0);
}

class ReadErrors : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(files_.WriteDurably(folder_.path(), "file.partial", "file", "bytes").ok());
  }
  // With `error` from the system: what an open says, and a read of a file that is open.
  std::pair<absl::Status, absl::Status> OpenAndRead(int error) {
    const auto open = files_.OpenRead(path_);
    char bytes[5];
    read_error = error;
    const absl::Status opened = files_.OpenRead(path_).status();
    const absl::Status read = (*open)->ReadAt(0, bytes, sizeof(bytes));
    read_error = 0;
    return {opened, read};
  }
  const TemporaryFolder folder_;
  const std::string path_ = folder_.path() + "/file";
  FileSystem& files_ = *PosixFileSystem();
};

TEST_F(ReadErrors, WhatTheDeviceCannotReadIsDataLoss) {
  for (const int error : {EIO, EUCLEAN, EBADMSG}) {
    const auto [opened, read] = OpenAndRead(error);
    EXPECT_TRUE(absl::IsDataLoss(opened)) << opened;
    EXPECT_TRUE(absl::IsDataLoss(read)) << read;
    EXPECT_TRUE(SaysDamaged(opened) && SaysDamaged(read));
  }
}

TEST_F(ReadErrors, WhatTheProcessLacksSaysNothingAboutTheFile) {
  for (const int error : {EMFILE, ENFILE, ENOMEM, EACCES, EPERM}) {
    const auto [opened, read] = OpenAndRead(error);
    EXPECT_FALSE(opened.ok() || SaysDamaged(opened)) << opened;
    EXPECT_FALSE(read.ok() || SaysDamaged(read)) << read;
  }
}

TEST_F(ReadErrors, AFileThatIsGoneShortOrAFolderIsDamaged) {
  EXPECT_TRUE(SaysDamaged(files_.OpenRead(path_ + "2").status()));
  EXPECT_TRUE(SaysDamaged(files_.OpenRead(folder_.path()).status()));
  char bytes[6];
  EXPECT_TRUE(SaysDamaged((*files_.OpenRead(path_))->ReadAt(0, bytes, sizeof(bytes))));
}

}  // namespace
}  // namespace ckpt
