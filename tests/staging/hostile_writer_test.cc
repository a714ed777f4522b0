// Trainers that go on writing to their mapping, or take it away; disks that are full.
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "common/digest.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/staging/staging_rig.h"

namespace ckpt {
namespace {

using ::testing::HasSubstr;

class HostileWriterTest : public ::testing::Test {
 protected:
  StagingRig rig_{{.persist_delay = absl::Milliseconds(100)}};
  std::shared_ptr<const PartLayout> layout_ = PlainLayout(8 << 20);
  absl::Status Committed(uint64_t step) {
    return rig_.WaitFor(rig_.Id(step), v1::CHECKPOINT_STATE_COMMITTED);
  }
};

TEST_F(HostileWriterTest, ATruncatedMappingFailsThePartAndNothingElse) {
  SessionClient client(rig_.socket_path());
  auto opened = rig_.Open(rig_.Claim(1, 0, 1, *layout_, &client), layout_);
  const SessionClient::File file = client.Granted(opened->accepted.file_id());
  ASSERT_TRUE(opened->stream->Finish(layout_->part_bytes(), Never).ok());
  opened->stream = nullptr;
  ASSERT_EQ(ftruncate(file.descriptor, 4096), 0);
  const absl::Status fate = Committed(1);
  EXPECT_TRUE(absl::IsAborted(fate)) << fate;
  EXPECT_THAT(std::string(fate.message()), HasSubstr("truncated"));
  ASSERT_TRUE(rig_.Save(rig_.Claim(2, 0, 1, *layout_, &client), layout_, 2, &client).ok());
  EXPECT_TRUE(Committed(2).ok());
}

TEST_F(HostileWriterTest, WhatIsHashedIsWhatIsWrittenWhateverTheMappingDoes) {
  SessionClient client(rig_.socket_path());
  auto opened = rig_.Open(rig_.Claim(1, 0, 1, *layout_, &client), layout_);
  const SessionClient::File file = client.Granted(opened->accepted.file_id());
  std::atomic<bool> stop{false};
  std::thread scribbler([&] {
    for (unsigned char value = 0; !stop; ++value) {
      std::memset(file.mapping, value, layout_->part_bytes());
    }
  });
  EXPECT_TRUE(opened->stream->Finish(layout_->part_bytes(), Never).ok());
  EXPECT_TRUE(Committed(1).ok());
  stop = true;
  scribbler.join();
  const std::string bytes = rig_.ReadBack(rig_.Id(1), 0).value();
  const auto record = rig_.index().FindStep(rig_.run, 1, std::nullopt);
  const auto part = rig_.data().ReadPartManifest(record->manifest.parts(0));
  ASSERT_EQ(part->block_hashes_size(), 8);
  for (int block = 0; block < 8; ++block) {
    EXPECT_EQ(part->block_hashes(block), Xxh3(bytes.data() + block * (1 << 20), 1 << 20));
  }
}

TEST_F(HostileWriterTest, APartBiggerThanTheDiskIsRefusedBeforeAnythingIsWritten) {
  rig_.files().SetFreeBytes(74 << 20);  // 64 MiB are never given away
  auto other = rig_.Open(rig_.Claim(1, 0, 2, *PlainLayout(10)), PlainLayout(10));
  const absl::Status refused = rig_.Open(rig_.Claim(1, 1, 2, *layout_), layout_).status();
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  EXPECT_TRUE(absl::IsAborted(Committed(1))) << "the others hear of it";
  EXPECT_EQ(rig_.data().ListObjects()->data_files.size(), 0u);
  rig_.files().SetFreeBytes(std::nullopt);
  ASSERT_TRUE(rig_.Save(rig_.Claim(2, 0, 1, *layout_), layout_, 1).ok());
  EXPECT_TRUE(Committed(2).ok());
}

TEST_F(HostileWriterTest, ADiskThatFillsUpInTheMiddleIsSurvived) {
  rig_.files().FailOn(FaultyFileSystem::Call::kWrite, ".safetensors", 1,
                      absl::ResourceExhaustedError("no space left on device"), 1000);
  ASSERT_TRUE(rig_.Save(rig_.Claim(1, 0, 1, *layout_), layout_, 1).ok());
  const absl::Status fate = Committed(1);
  EXPECT_TRUE(absl::IsAborted(fate));
  EXPECT_THAT(std::string(fate.message()), HasSubstr("no space left"));
  EXPECT_EQ(rig_.tier().usage().not_durable_bytes, 0u);
  EXPECT_EQ(rig_.data().ListObjects()->data_files.size(), 0u);
}

TEST_F(HostileWriterTest, AFailedCommitIsTriedAgain) {
  rig_.files().FailOn(FaultyFileSystem::Call::kRename, ".checkpoint", 1,
                      absl::InternalError("input/output error"), 1);
  ASSERT_TRUE(rig_.Save(rig_.Claim(1, 0, 1, *layout_), layout_, 1).ok());
  EXPECT_TRUE(Committed(1).ok());
}

TEST_F(HostileWriterTest, ACommitThatKeepsFailingAborts) {
  rig_.files().FailOn(FaultyFileSystem::Call::kRename, ".checkpoint", 1,
                      absl::InternalError("input/output error"), 1000);
  ASSERT_TRUE(rig_.Save(rig_.Claim(1, 0, 1, *layout_), layout_, 1).ok());
  EXPECT_TRUE(absl::IsAborted(Committed(1)));
  EXPECT_EQ(rig_.data().ListCheckpointManifests()->size(), 0u);
}

// What a sync was to make durable may be lost, though the next sync would say that it is not.
TEST_F(HostileWriterTest, ACommitWhoseSyncFailedIsNotTriedAgain) {
  using Call = FaultyFileSystem::Call;
  const auto fail = [this](Call call, const std::string& path_part) {
    rig_.files().FailOn(call, path_part, 1, absl::InternalError("input/output error"), 1);
  };
  fail(Call::kSyncFolder, "/checkpoints");
  ASSERT_TRUE(rig_.Save(rig_.Claim(1, 0, 1, *layout_), layout_, 1).ok());
  EXPECT_TRUE(absl::IsAborted(Committed(1)));
  EXPECT_EQ(rig_.data().ListCheckpointManifests()->size(), 0u);
  fail(Call::kSync, ".checkpoint");
  ASSERT_TRUE(rig_.Save(rig_.Claim(2, 0, 1, *layout_), layout_, 1).ok());
  EXPECT_TRUE(absl::IsAborted(Committed(2)));
  EXPECT_EQ(rig_.data().ListCheckpointManifests()->size(), 0u);
  ASSERT_TRUE(rig_.Save(rig_.Claim(3, 0, 1, *layout_), layout_, 1).ok());
  EXPECT_TRUE(Committed(3).ok());
}

TEST_F(HostileWriterTest, ALayoutThatIsNotWhatItsDigestSaysIsRefused) {
  auto stream = rig_.table().Begin(rig_.Claim(1, 0, 1, *layout_), [] {});
  ASSERT_TRUE(stream.ok());
  EXPECT_TRUE(absl::IsInvalidArgument((*stream)->SetLayout(PlainLayout(5)->serialized())));
  EXPECT_TRUE(absl::IsAborted(Committed(1)));
}

TEST_F(HostileWriterTest, GarbageForALayoutIsRefused) {
  const std::string garbage(1000, '\xff');
  PartClaim claim = rig_.Claim(1, 0, 1, *layout_);
  claim.layout_digest = Sha256(garbage);
  auto stream = rig_.table().Begin(claim, [] {});
  EXPECT_TRUE(absl::IsInvalidArgument((*stream)->SetLayout(garbage)));
}

}  // namespace
}  // namespace ckpt
