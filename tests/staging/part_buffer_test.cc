#include "server/staging/part_buffer.h"

#include <thread>

#include "gtest/gtest.h"
#include "tests/staging/staging_rig.h"

namespace ckpt {
namespace {

class PartBufferTest : public ::testing::Test {
 protected:
  std::shared_ptr<PartBuffer> Make(
      uint64_t file_bytes, uint64_t part_bytes, absl::AnyInvocable<void()> grew = [] {}) {
    file_ = StagingFile::Create(folder_.path() + "/data", file_bytes, HugePages::kNone).value();
    return std::make_shared<PartBuffer>(file_, part_bytes, std::move(grew));
  }
  TestFolder folder_{"/dev/shm"};
  std::shared_ptr<StagingFile> file_;
};

TEST_F(PartBufferTest, WholePartMayBeWrittenAtOnce) {
  auto buffer = Make(8192, 8000);
  EXPECT_FALSE(buffer->ring());
  EXPECT_EQ(buffer->credit(), 8000);
  EXPECT_TRUE(absl::IsInvalidArgument(buffer->Advance(8001)));
  ASSERT_TRUE(buffer->Advance(8000).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(buffer->Advance(7999))) << "never backwards";
}

TEST_F(PartBufferTest, RingCarriesMoreThanItHolds) {
  constexpr uint64_t kPart = 1 << 20;
  auto buffer = Make(64 << 10, kPart);
  ASSERT_TRUE(buffer->ring());
  const std::string bytes = Pattern(kPart, 7);
  std::string read(kPart, '\0');
  std::thread reader([&] {
    // Longer than the ring: slots are freed while the call is under way.
    for (uint64_t at = 0; at < kPart; at += 256 << 10) {
      ASSERT_TRUE(buffer->Read(at, read.data() + at, 256 << 10).ok());
    }
  });
  uint64_t at = 0;
  while (at < kPart) {
    const uint64_t piece = std::min<uint64_t>(buffer->credit() - at, 10000);
    if (piece == 0) std::this_thread::yield();
    ASSERT_TRUE(buffer->Write(at, Received(absl::string_view(bytes).substr(at, piece))).ok());
    at += piece;
  }
  reader.join();
  EXPECT_EQ(read, bytes);
}

TEST_F(PartBufferTest, RingRefusesWhatIsBeyondItsCredit) {
  auto buffer = Make(64 << 10, 1 << 20);
  EXPECT_EQ(buffer->credit(), 64 << 10);
  EXPECT_TRUE(absl::IsInvalidArgument(buffer->Advance((64 << 10) + 1)));
  EXPECT_TRUE(
      absl::IsInvalidArgument(buffer->Write(0, Received(std::string((64 << 10) + 1, 'x')))));
  EXPECT_TRUE(absl::IsInvalidArgument(buffer->Write(5, Received("not the next bytes"))));
}

TEST_F(PartBufferTest, BytesCountOnlyOnceTheirCrcWasRight) {
  auto buffer = Make(64 << 10, 1 << 20);
  const std::string bytes = Pattern(60000, 3);
  const absl::string_view all = bytes;
  const std::vector<absl::string_view> pieces = {all.substr(0, 1), all.substr(1, 40000),
                                                 all.substr(40001)};
  EXPECT_TRUE(absl::IsInvalidArgument(buffer->Write(0, {pieces, Crc32c(all) ^ 1})));
  EXPECT_EQ(buffer->written(), 0u);
  ASSERT_TRUE(buffer->Write(0, {pieces, Crc32c(all)}).ok());
  EXPECT_EQ(buffer->written(), bytes.size());
  std::string read(bytes.size(), '\0');
  ASSERT_TRUE(buffer->Read(0, read.data(), read.size()).ok());
  EXPECT_EQ(read, bytes);
}

TEST_F(PartBufferTest, ReadingTellsTheWriterOfNewCredit) {
  int told = 0;
  auto buffer = Make(64 << 10, 1 << 20, [&] { ++told; });
  ASSERT_TRUE(buffer->Advance(64 << 10).ok());
  char read[4096];
  ASSERT_TRUE(buffer->Read(0, read, sizeof(read)).ok());
  EXPECT_EQ(told, 1);
  EXPECT_EQ(buffer->credit(), (64 << 10) + 4096);
}

TEST_F(PartBufferTest, AbortWakesAReaderThatWaits) {
  auto buffer = Make(64 << 10, 1 << 20);
  std::thread reader([&] {
    char read[4096];
    EXPECT_TRUE(absl::IsAborted(buffer->Read(0, read, sizeof(read))));
  });
  buffer->Abort(absl::AbortedError("over"));
  reader.join();
  EXPECT_TRUE(absl::IsAborted(buffer->Advance(1)));
  EXPECT_TRUE(absl::IsAborted(buffer->Write(0, Received("x"))));
}

}  // namespace
}  // namespace ckpt
