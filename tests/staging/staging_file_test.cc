#include "server/staging/staging_file.h"

#include <sys/mman.h>
#include <unistd.h>

#include "gtest/gtest.h"
#include "tests/staging/staging_rig.h"

namespace ckpt {
namespace {

class StagingFileTest : public ::testing::Test {
 protected:
  TestFolder folder_{"/dev/shm"};
  std::shared_ptr<StagingFile> Make(uint64_t bytes) {
    return StagingFile::Create(folder_.path() + "/data", bytes, HugePages::kNone).value();
  }
};

TEST_F(StagingFileTest, PagesAreThereFromTheStart) {
  auto file = Make(1 << 20);
  EXPECT_EQ(file->bytes(), 1 << 20);
  EXPECT_TRUE(file->Intact());
}

TEST_F(StagingFileTest, ReadsWhatWasWritten) {
  auto file = Make(8192);
  ASSERT_TRUE(file->Write(4000, "hello").ok());
  char read[5];
  ASSERT_TRUE(file->Read(4000, read, 5).ok());
  EXPECT_EQ(std::string(read, 5), "hello");
}

TEST_F(StagingFileTest, WritesThroughAMappingUntilADescriptorLeaves) {
  auto file = Make(5 << 20);
  EXPECT_FALSE(file->mapped());
  const std::string bytes = Pattern(3 << 20, 1);
  ASSERT_TRUE(file->Write(1000, bytes).ok());
  EXPECT_TRUE(file->mapped());
  EXPECT_TRUE(file->OnlyOurs()) << "our own mapping is not somebody else's";
  EXPECT_TRUE(file->Intact());
  std::string read(bytes.size(), '\0');
  ASSERT_TRUE(file->Read(1000, read.data(), read.size()).ok());
  EXPECT_EQ(read, bytes);
  {
    Descriptor client = file->Reopen(/*read_only=*/true).value();
    EXPECT_FALSE(file->mapped());
    ASSERT_TRUE(file->Write(5, "hello").ok());
    EXPECT_FALSE(file->mapped());
  }
  ASSERT_TRUE(file->Write(0, "hello").ok());
  EXPECT_FALSE(file->mapped()) << "what was lent once is not trusted again";
  ASSERT_TRUE(file->Read(0, read.data(), 10).ok());
  EXPECT_EQ(read.substr(0, 10), "hellohello");
}

TEST_F(StagingFileTest, AClientThatTruncatesCannotKillTheWriter) {
  auto file = Make(8192);
  Descriptor client = file->Reopen(/*read_only=*/false).value();
  ASSERT_EQ(ftruncate(client.get(), 0), 0);
  (void)file->Write(4096, "through a mapping this would be SIGBUS");
  EXPECT_FALSE(file->mapped());
}

TEST_F(StagingFileTest, AFileOfAnEarlierDaemonIsNotMapped) {
  Make(8192);
  auto found = StagingFile::OpenExisting(folder_.path() + "/data").value();
  ASSERT_TRUE(found->Write(0, "hello").ok());
  EXPECT_FALSE(found->mapped());
}

TEST_F(StagingFileTest, TruncatedByItsClientIsDataLossAndNotIntact) {
  auto file = Make(8192);
  Descriptor client = file->Reopen(/*read_only=*/false).value();
  ASSERT_EQ(ftruncate(client.get(), 4096), 0);
  char read[8192];
  EXPECT_TRUE(absl::IsDataLoss(file->Read(0, read, sizeof(read))));
  EXPECT_FALSE(file->Intact());
}

TEST_F(StagingFileTest, HolesMadeByItsClientAreSeen) {
  auto file = Make(8 << 20);
  Descriptor client = file->Reopen(false).value();
  ASSERT_EQ(ftruncate(client.get(), 4096), 0);
  ASSERT_EQ(ftruncate(client.get(), 8 << 20), 0);
  EXPECT_FALSE(file->Intact());
}

TEST_F(StagingFileTest, GrownByItsClientIsNotIntact) {
  auto file = Make(8192);
  Descriptor client = file->Reopen(false).value();
  ASSERT_EQ(ftruncate(client.get(), 1 << 30), 0);
  EXPECT_FALSE(file->Intact());
}

TEST_F(StagingFileTest, KnowsWhetherAnybodyElseHoldsItsPages) {
  auto file = Make(8192);
  EXPECT_TRUE(file->OnlyOurs());
  void* mapping = nullptr;
  {
    Descriptor client = file->Reopen(false).value();
    EXPECT_FALSE(file->OnlyOurs());
    mapping = mmap(nullptr, 8192, PROT_READ, MAP_SHARED, client.get(), 0);
  }
  unlink((folder_.path() + "/data").c_str());
  EXPECT_FALSE(file->OnlyOurs()) << "the mapping holds the pages though descriptor and name went";
  munmap(mapping, 8192);
  EXPECT_TRUE(file->OnlyOurs());
}

TEST_F(StagingFileTest, ReadOnlyReaderIsSeenToo) {
  auto file = Make(8192);
  Descriptor reader = file->Reopen(/*read_only=*/true).value();
  EXPECT_EQ(write(reader.get(), "x", 1), -1);
  EXPECT_FALSE(file->OnlyOurs());
}

}  // namespace
}  // namespace ckpt
