#include "server/storage/direct_read.h"

#include "gtest/gtest.h"
#include "tests/persist/persist_fixture.h"

namespace ckpt {
namespace {

TEST(DirectRead, GivesTheBytesOfEveryRangeAndSaysWhereAFileEnds) {
  for (const auto place : {TemporaryFolder::kDisk, TemporaryFolder::kMemory}) {
    const TemporaryFolder folder(place);
    const std::string bytes = PartBytes(*LayoutOfSizes({(5 << 20) + 123}), 1);
    ASSERT_TRUE(PosixFileSystem()->WriteDurably(folder.path(), "t", "file", bytes).ok());
    auto opened = PosixFileSystem()->OpenRead(folder.path() + "/file");
    ASSERT_TRUE(opened.ok()) << opened.status();
    const auto file = PastTheCache(*std::move(opened));
    EXPECT_EQ(file->size(), bytes.size());
    const std::pair<uint64_t, uint64_t> ranges[] = {
        {0, 1}, {4095, 2}, {4096, 4096}, {100, 3 << 20}, {(5 << 20) + 100, 23}, {0, bytes.size()}};
    for (const auto& [offset, length] : ranges) {
      std::string read(length, '\0');
      ASSERT_TRUE(file->ReadAt(offset, read.data(), length).ok());
      EXPECT_EQ(read, bytes.substr(offset, length)) << offset;
    }
    std::string beyond(24, '\0');
    EXPECT_TRUE(absl::IsDataLoss(file->ReadAt((5 << 20) + 100, beyond.data(), beyond.size())));
  }
}

}  // namespace
}  // namespace ckpt
