// A trainer that has hashed its own memory: a bit that flips on the way to disk is found, whichever
// way the bytes go.
#include <cstring>
#include <thread>

#include "common/digest.h"
#include "common/limits.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/staging/staging_rig.h"

namespace ckpt {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// Of a layout of one tensor.
std::vector<uint64_t> HashesOf(const std::string& bytes) {
  std::vector<uint64_t> hashes;
  for (size_t at = 0; at < bytes.size(); at += kHashBlockBytes) {
    hashes.push_back(Xxh3(absl::string_view(bytes).substr(at, kHashBlockBytes)));
  }
  return hashes;
}

class SourceHashesTest : public ::testing::Test {
 protected:
  StagingRig rig_{{.budget_bytes = 16 << 20}};
  std::shared_ptr<const PartLayout> layout_ = PlainLayout((5 << 20) + 100);
  const std::string bytes_ = Pattern(layout_->part_bytes(), 3);

  absl::Status Committed(uint64_t step) {
    return rig_.WaitFor(rig_.Id(step), v1::CHECKPOINT_STATE_COMMITTED);
  }
  // Writes `bytes` into the mapping, says that they were `bytes_`, and finishes.
  absl::Status Save(uint64_t step, SessionClient& client, const std::string& bytes) {
    auto opened = rig_.Open(rig_.Claim(step, 0, 1, *layout_, &client), layout_);
    if (!opened.ok()) return opened.status();
    const SessionClient::File file = client.Granted(opened->accepted.file_id());
    std::memcpy(file.mapping, bytes.data(), bytes.size());
    absl::Status said = opened->stream->SetSourceHashes(HashesOf(bytes_));
    if (!said.ok()) return said;
    return opened->stream->Finish(bytes.size(), Never).status();
  }
  void ExpectFound(const absl::Status& fate) {
    EXPECT_TRUE(absl::IsAborted(fate)) << fate;
    EXPECT_THAT(std::string(fate.message()),
                AllOf(HasSubstr("rank 0"), HasSubstr("key "), HasSubstr("block 2"),
                      HasSubstr("the trainer's hash is"), HasSubstr("1 of 6 blocks")));
    EXPECT_THAT(rig_.data().ListObjects()->data_files, ::testing::IsEmpty());
  }
  std::string Flipped() const {
    std::string bytes = bytes_;
    bytes[(2 << 20) + 77] ^= 0x10;
    return bytes;
  }
};

TEST_F(SourceHashesTest, BytesThatArriveAsTheyWereCommit) {
  SessionClient client(rig_.socket_path());
  ASSERT_TRUE(Save(1, client, bytes_).ok());
  EXPECT_TRUE(Committed(1).ok()) << Committed(1);
}

TEST_F(SourceHashesTest, ABitThatFlipsInTheMappingAbortsTheCheckpoint) {
  SessionClient client(rig_.socket_path());
  ASSERT_TRUE(Save(1, client, Flipped()).ok());
  const absl::Status fate = Committed(1);
  // Files of what was durable go in the background.
  while (!rig_.data().ListObjects()->data_files.empty()) std::this_thread::yield();
  ExpectFound(fate);
  ASSERT_TRUE(Save(2, client, bytes_).ok());
  EXPECT_TRUE(Committed(2).ok());
}

TEST_F(SourceHashesTest, ARestartedDaemonComparesToo) {
  rig_.options().persist_delay = absl::Hours(1);
  rig_.Crash();
  rig_.Start();
  {
    SessionClient client(rig_.socket_path());
    ASSERT_TRUE(Save(1, client, Flipped()).ok());
  }
  rig_.Crash();
  rig_.options().persist_delay = absl::ZeroDuration();
  rig_.Start();
  EXPECT_EQ(rig_.adopted().parts, 1u);
  const absl::Status fate = Committed(1);
  while (!rig_.data().ListObjects()->data_files.empty()) std::this_thread::yield();
  ExpectFound(fate);
}

TEST_F(SourceHashesTest, ARingComparesBeforeItIsStaged) {
  rig_.options().budget_bytes = 2 << 20;
  rig_.Crash();
  rig_.Start();
  for (const bool flipped : {true, false}) {
    SessionClient client(rig_.socket_path());
    const std::string bytes = flipped ? Flipped() : bytes_;
    auto opened = rig_.Open(rig_.Claim(flipped ? 1 : 2, 0, 1, *layout_, &client), layout_);
    ASSERT_TRUE(opened.ok()) << opened.status();
    ASSERT_TRUE(opened->accepted.ring());
    const SessionClient::File file = client.Granted(opened->accepted.file_id());
    const uint64_t ring = opened->accepted.file_bytes();
    for (uint64_t at = 0; at < bytes.size();) {
      const uint64_t piece = std::min<uint64_t>(
          {opened->stream->credit() - at, bytes.size() - at, ring - at % ring});
      std::memcpy(file.mapping + at % ring, bytes.data() + at, piece);
      at += piece;
      ASSERT_TRUE(opened->stream->Progress(at).ok());
    }
    ASSERT_TRUE(opened->stream->SetSourceHashes(HashesOf(bytes_)).ok());
    const absl::Status finished = opened->stream->Finish(bytes.size(), Never).status();
    EXPECT_EQ(finished.ok(), !flipped) << finished;
    if (!flipped) continue;
    opened->stream = nullptr;
    while (!rig_.data().ListObjects()->data_files.empty()) std::this_thread::yield();
    ExpectFound(Committed(1));
  }
  EXPECT_TRUE(Committed(2).ok());
}

TEST_F(SourceHashesTest, AnotherNumberOfThemIsRefused) {
  auto opened = rig_.Open(rig_.Claim(1, 0, 1, *layout_), layout_);
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_TRUE(absl::IsInvalidArgument(opened->stream->SetSourceHashes({1, 2, 3})));
}

}  // namespace
}  // namespace ckpt
