#include "client/memory/mapping.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "gtest/gtest.h"

namespace ckpt {
namespace {

constexpr uint64_t kMiB = 1 << 20;

class MappingTest : public testing::Test {
 protected:
  void SetUp() override {
    file_ = memfd_create("mapping_test", MFD_CLOEXEC);
    ASSERT_GE(file_, 0);
  }
  void TearDown() override { close(file_); }
  int file_ = -1;
};

TEST_F(MappingTest, SharesItsBytesWithTheFile) {
  ASSERT_EQ(ftruncate(file_, 5 * kMiB + 100), 0);
  const auto mapping = Mapping::Map(file_, 5 * kMiB + 100, true);
  ASSERT_TRUE(mapping.ok()) << mapping.status();
  ASSERT_TRUE((*mapping)->Populate(4 * kMiB, kMiB + 100).ok());
  EXPECT_FALSE((*mapping)->populated());
  std::memcpy((*mapping)->data() + 5 * kMiB + 96, "tail", 4);
  char tail[4];
  ASSERT_EQ(pread(file_, tail, 4, 5 * kMiB + 96), 4);
  EXPECT_EQ(std::memcmp(tail, "tail", 4), 0);
  ASSERT_TRUE((*mapping)->Populate(0, 5 * kMiB + 100).ok());
  EXPECT_TRUE((*mapping)->populated());
}

TEST_F(MappingTest, PopulatingKeepsWhatIsThere) {
  ASSERT_EQ(ftruncate(file_, kMiB), 0);
  ASSERT_EQ(pwrite(file_, "x", 1, 8192), 1);
  for (const bool writable : {true, false}) {
    const auto mapping = Mapping::Map(file_, kMiB, writable);
    ASSERT_TRUE(mapping.ok());
    ASSERT_TRUE((*mapping)->Populate(0, kMiB).ok());
    EXPECT_EQ((*mapping)->data()[8192], std::byte{'x'});
  }
}

TEST_F(MappingTest, AFileShorterThanGrantedIsRefused) {
  ASSERT_EQ(ftruncate(file_, kMiB), 0);
  EXPECT_EQ(Mapping::Map(file_, kMiB + 1, false).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_F(MappingTest, ATruncatedFileIsAnErrorAndNoSignal) {
  ASSERT_EQ(ftruncate(file_, 4 * kMiB), 0);
  const auto mapping = Mapping::Map(file_, 4 * kMiB, false);
  ASSERT_TRUE(mapping.ok());
  ASSERT_EQ(ftruncate(file_, kMiB), 0);
  EXPECT_EQ((*mapping)->Populate(2 * kMiB, kMiB).code(), absl::StatusCode::kDataLoss);
}

// Looked up by name: whatever runs in the child may map something else at that address.
TEST_F(MappingTest, AForkedChildDoesNotInheritIt) {
  ASSERT_EQ(ftruncate(file_, kMiB), 0);
  const auto mapping = Mapping::Map(file_, kMiB, true);
  ASSERT_TRUE(mapping.ok());
  constexpr char kName[] = "memfd:mapping_test";
  std::string maps(1 << 22, '\0');  // nothing is allocated in the child
  const auto is_mapped = [&] {
    const int list = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    size_t size = 0;
    for (ssize_t got; (got = read(list, maps.data() + size, maps.size() - size)) > 0;) {
      size += static_cast<size_t>(got);
    }
    close(list);
    return memmem(maps.data(), size, kName, sizeof(kName) - 1) != nullptr;
  };
  ASSERT_TRUE(is_mapped());
  const pid_t child = fork();
  if (child == 0) _exit(is_mapped() ? 1 : 0);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace ckpt
