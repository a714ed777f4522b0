#include "server/scrub/scrubber.h"

#include <atomic>
#include <chrono>
#include <filesystem>
#include <optional>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/observe/log.h"
#include "server/storage/names.h"
#include "tests/persist/persist_fixture.h"

namespace ckpt {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class ScrubberTest : public ::testing::Test {
 protected:
  void SetUp() override {
    observe::ConfigureLog(
        {.minimum = observe::Severity::kError, .sink = [this](const std::string& line) {
           MutexLock lock(mutex_);
           lines_.push_back(line);
         }});
    auto store = Store::Open(folder_.path() + "/data", &files_);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    known_.emplace(&store_->index());
    for (const uint64_t step : {1, 2}) {
      const CheckpointUid uid = CheckpointUid::TimeOrdered();
      ASSERT_TRUE(store_->Save(IdOf("r", step), uid, {9 * kMiB + 5, 70}, 2).ok());
      uids_.push_back(uid);
    }
  }
  void TearDown() override { observe::ConfigureLog({}); }

  std::unique_ptr<Scrubber> Make(ScrubOptions options = {.bytes_per_second = 0,
                                                         .interval = absl::ZeroDuration()}) {
    return std::make_unique<Scrubber>(&store_->folder(), &store_->index(), &*known_, options);
  }
  std::string DataPath(CheckpointUid uid, uint32_t rank) {
    const auto head = store_->index().GetPartHead(uid, rank);
    return store_->folder().ObjectsFolder() + "/" +
           names::DataFile(*FileId::FromBytes(head->files(0).file_id(), "id"));
  }
  std::vector<std::string> Lines() {
    MutexLock lock(mutex_);
    return lines_;
  }

  TemporaryFolder folder_{TemporaryFolder::kDisk};
  TemporaryFolder shadow_{TemporaryFolder::kDisk};
  FaultyFileSystem files_{shadow_.path()};
  std::unique_ptr<Store> store_;
  std::vector<CheckpointUid> uids_;
  std::optional<KnownDamage> known_;
  Mutex mutex_;
  std::vector<std::string> lines_ ABSL_GUARDED_BY(mutex_);
};

TEST_F(ScrubberTest, ReadsAllAndFindsNothingInAHealthyStore) {
  const auto scrubber = Make();
  ASSERT_TRUE(scrubber->Pass().ok());
  const ScrubStatus status = scrubber->status();
  EXPECT_GE(status.bytes, 4 * (9 * kMiB + 75));
  EXPECT_EQ(status.damaged_places, 0u);
  EXPECT_EQ(status.checkpoints_due, 0u);
  EXPECT_GT(status.pass_ended_at, absl::InfinitePast());
  EXPECT_THAT(Lines(), IsEmpty());
}

TEST_F(ScrubberTest, NamesDamageMarksTheCheckpointAndForgetsItWhenItIsGone) {
  const std::string path = DataPath(uids_[0], 1);
  const uint64_t offset = std::filesystem::file_size(path) - 80;
  FlipByte(path, offset);
  const auto scrubber = Make();
  ASSERT_TRUE(scrubber->Pass().ok());
  EXPECT_EQ(scrubber->status().damaged_places, 1u);
  ASSERT_TRUE(known_->Find(uids_[0]).has_value());
  EXPECT_FALSE(known_->Find(uids_[1]).has_value());
  EXPECT_THAT(known_->Find(uids_[0])->first,
              AllOf(HasSubstr("rank 1"), HasSubstr(std::filesystem::path(path).filename().string()),
                    HasSubstr("t0"), HasSubstr("offset ")));
  EXPECT_THAT(Lines(), Contains(AllOf(HasSubstr("run=r"), HasSubstr("step=1"), HasSubstr("t0"))));
  known_.emplace(&store_->index());
  ASSERT_TRUE(known_->Load().ok());
  EXPECT_EQ(known_->count(), 1u) << "as after a restart";
  EXPECT_THAT(known_->Find(uids_[0])->first, HasSubstr("t0"));
  FlipByte(path, offset);
  ASSERT_TRUE(scrubber->Pass().ok());
  EXPECT_EQ(known_->count(), 0u);
  known_.emplace(&store_->index());
  ASSERT_TRUE(known_->Load().ok());
  EXPECT_EQ(known_->count(), 0u);
  FlipByte(path, offset);
  ASSERT_TRUE(scrubber->Pass().ok());
  EXPECT_EQ(known_->count(), 1u);
  ASSERT_TRUE(store_->persister().Delete(uids_[0]).ok());  // by one who does not say so
  ASSERT_TRUE(scrubber->Pass().ok());
  EXPECT_EQ(known_->count(), 0u);
}

TEST_F(ScrubberTest, WhatWasCommittedOrCheckedWithinTheIntervalIsNotDue) {
  const auto scrubber = Make({.bytes_per_second = 0, .interval = absl::Hours(1)});
  ASSERT_TRUE(scrubber->Pass().ok());
  EXPECT_EQ(scrubber->status().bytes, 0u);
  EXPECT_EQ(scrubber->status().pass_ended_at, absl::InfinitePast());
}

// Its files may have been put back by hand.
TEST_F(ScrubberTest, AMarkOfAnEarlierProcessIsDueAtOnce) {
  VerificationProgress found;
  found.damage = {"a file"};
  known_->Found(uids_[0], found);
  known_.emplace(&store_->index());
  ASSERT_TRUE(known_->Load().ok());
  const auto scrubber = Make({.bytes_per_second = 0, .interval = absl::Hours(1)});
  ASSERT_TRUE(scrubber->Pass().ok());
  EXPECT_GT(scrubber->status().bytes, 0u);
  EXPECT_EQ(known_->count(), 0u);
}

// By a restore or a verify: memory may still have its bytes, and in an interval it will not.
TEST_F(ScrubberTest, WhatSomebodyElseHasFoundSinceIsDueAtOnce) {
  const auto scrubber = Make({.bytes_per_second = 0, .interval = absl::Seconds(1)});
  absl::SleepFor(absl::Milliseconds(1100));  // they were just committed
  ASSERT_TRUE(scrubber->Pass().ok());
  const uint64_t read = scrubber->status().bytes;
  EXPECT_GT(read, 0u);
  VerificationProgress found;
  found.damage = {"a file"};
  known_->Found(uids_[0], found);
  ASSERT_TRUE(scrubber->Pass().ok());
  EXPECT_GT(scrubber->status().bytes, read);
  EXPECT_EQ(known_->count(), 0u);
}

// Deletion is not held up, and what it takes away is no damage.
TEST_F(ScrubberTest, ADeletionEndsTheReadOfItsCheckpoint) {
  std::atomic<int> reads{0};
  ScrubOptions options{.bytes_per_second = 0, .interval = absl::ZeroDuration()};
  options.busy = [&] {
    if (++reads != 2) return false;
    EXPECT_TRUE(store_->persister().Delete(uids_[0]).ok());
    return false;
  };
  const auto scrubber = Make(options);
  ASSERT_TRUE(scrubber->Pass().ok());
  EXPECT_EQ(scrubber->status().damaged_places, 0u);
  EXPECT_EQ(known_->count(), 0u);
  EXPECT_EQ(store_->FilesOnDisk().size(), 5u) << "the pins are gone";
  EXPECT_LT(scrubber->status().bytes, 3 * (10 * kMiB));
}

TEST_F(ScrubberTest, ManifestsAreReadToo) {
  const std::string manifest =
      store_->folder().CheckpointsFolder() + "/" + names::CheckpointManifest(uids_[1]);
  FlipByte(manifest, 50);
  ASSERT_TRUE(Make()->Pass().ok());
  EXPECT_THAT(known_->Find(uids_[1])->first, HasSubstr(names::CheckpointManifest(uids_[1])));
}

// As where an allowed caller has used up all descriptors: that is no damage.
TEST_F(ScrubberTest, WhatCannotBeReadNowIsNotMarkedAndTheOthersAreRead) {
  const std::string manifest = names::CheckpointManifest(uids_[0]);
  const std::string data = std::filesystem::path(DataPath(uids_[0], 1)).filename().string();
  const auto scrubber = Make();
  uint64_t bytes = 0;
  for (const std::string& unread : {manifest, data}) {
    files_.Restart();
    files_.FailOn(FaultyFileSystem::Call::kRead, unread, 1,
                  absl::InternalError("open failed: Too many open files"));
    const absl::Status passed = scrubber->Pass();
    EXPECT_TRUE(absl::IsInternal(passed)) << passed;
    EXPECT_EQ(known_->count(), 0u);
    const ScrubStatus status = scrubber->status();
    EXPECT_EQ(status.damaged_places, 0u);
    EXPECT_EQ(status.pass_ended_at, absl::InfinitePast());
    EXPECT_GE(status.bytes - bytes, 2 * (9 * kMiB + 75)) << "all of the other one";
    bytes = status.bytes;
  }
  ASSERT_TRUE(scrubber->Pass().ok());
  EXPECT_GE(scrubber->status().bytes - bytes, 4 * (9 * kMiB + 75)) << "it is still due";
  EXPECT_GT(scrubber->status().pass_ended_at, absl::InfinitePast());
  files_.Restart();
  files_.FailOn(FaultyFileSystem::Call::kRead, data, 1,
                absl::DataLossError("the device cannot read"), /*times=*/2);
  ASSERT_TRUE(scrubber->Pass().ok());
  EXPECT_TRUE(known_->Find(uids_[0]).has_value());
}

// A tier that has the parts of a store, perhaps damaged.
class OtherTier : public BlockSource {
 public:
  std::unique_ptr<PartSource> Open(CheckpointUid, uint32_t rank) override {
    if (gone) return nullptr;
    std::string bytes = PartBytes(*LayoutOfSizes({9 * kMiB + 5, 70}), 1 + rank);
    if (damaged) bytes[3 * kMiB] ^= 1;
    return std::make_unique<StringSource>(bytes);
  }
  bool gone = false;
  bool damaged = false;
};

TEST_F(ScrubberTest, RepairsFromAnotherTierAndSwapsTheFileIn) {
  OtherTier tier;
  const std::string path = DataPath(uids_[0], 1);
  const auto old = PosixFileSystem()->OpenRead(path);
  FlipByte(path, 4096 + 3 * kMiB);
  FlipByte(path, 100);
  CutFile(DataPath(uids_[0], 0), 5000);
  std::filesystem::remove(DataPath(uids_[1], 0));
  const auto scrubber =
      Make({.bytes_per_second = 0, .interval = absl::ZeroDuration(), .source = &tier});
  ASSERT_TRUE(scrubber->Pass().ok());
  EXPECT_EQ(scrubber->status().repaired_files, 3u);
  EXPECT_EQ(known_->count(), 0u);
  for (const CheckpointUid uid : uids_) EXPECT_TRUE(store_->Check(uid).ok()) << store_->Check(uid);
  EXPECT_EQ(store_->FilesOnDisk().size(), 10u);
  // Whoever had the old one open still reads that.
  char byte = 0;
  ASSERT_TRUE((*old)->ReadAt(4096 + 3 * kMiB, &byte, 1).ok());
  char repaired = 0;
  ASSERT_TRUE((*PosixFileSystem()->OpenRead(path))->ReadAt(4096 + 3 * kMiB, &repaired, 1).ok());
  EXPECT_NE(byte, repaired);
}

TEST_F(ScrubberTest, ABlockThatIsGoodNowhereIsNotRepairedOver) {
  OtherTier tier;
  tier.damaged = true;
  const std::string path = DataPath(uids_[0], 1);
  FlipByte(path, 4096 + 3 * kMiB);
  const ScrubOptions options{
      .bytes_per_second = 0, .interval = absl::ZeroDuration(), .source = &tier};
  ASSERT_TRUE(Make(options)->Pass().ok());
  EXPECT_TRUE(known_->Find(uids_[0]).has_value());
  EXPECT_EQ(store_->FilesOnDisk().size(), 10u) << "nothing half made is left";
  // Elsewhere the other tier's damage does no harm: that block is good on disk.
  FlipByte(path, 4096 + 3 * kMiB);
  FlipByte(path, 4096 + 5 * kMiB);
  ASSERT_TRUE(Make(options)->Pass().ok());
  EXPECT_EQ(known_->count(), 0u);
  tier.gone = true;
  FlipByte(path, 4096 + 5 * kMiB);
  ASSERT_TRUE(Make(options)->Pass().ok());
  EXPECT_TRUE(known_->Find(uids_[0]).has_value());
}

TEST_F(ScrubberTest, TheThreadGoesRoundAndEndsAtOnce) {
  ScrubOptions options{.bytes_per_second = uint64_t{1} << 40, .interval = absl::ZeroDuration()};
  auto scrubber = Make(options);
  scrubber->Start();
  while (scrubber->status().pass_ended_at == absl::InfinitePast()) std::this_thread::yield();
  scrubber.reset();
  options.bytes_per_second = 1;  // years for one read
  scrubber = Make(options);
  scrubber->Start();
  while (scrubber->status().bytes == 0) std::this_thread::yield();
  scrubber.reset();
}

// One-sided: never faster than the rate, however fast the disk; how much slower is the machine's
// affair.
TEST_F(ScrubberTest, ReadsNoFasterThanItsRate) {
  constexpr uint64_t kRate = 24 * kMiB;  // of 36 MiB
  const auto scrubber =
      Make({.bytes_per_second = kRate, .interval = absl::ZeroDuration()});
  const auto began = std::chrono::steady_clock::now();
  ASSERT_TRUE(scrubber->Pass().ok());
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
  const uint64_t bytes = scrubber->status().bytes;
  EXPECT_GE(bytes, 4 * (9 * kMiB + 75));
  EXPECT_GE(took.count(), 0.95 * static_cast<double>(bytes) / kRate);  // wall clocks are adjusted
}

TEST_F(ScrubberTest, PausesWhileSomethingIsMoreUrgent) {
  std::atomic<bool> busy{true};
  std::atomic<int> asked{0};
  ScrubOptions options{.bytes_per_second = uint64_t{1} << 40, .interval = absl::ZeroDuration()};
  options.busy = [&] {
    ++asked;
    return busy.load();
  };
  const auto scrubber = Make(options);
  scrubber->Start();
  while (asked < 3) std::this_thread::yield();
  EXPECT_EQ(scrubber->status().bytes, 0u) << "it stands before its first read";
  busy = false;
  while (scrubber->status().pass_ended_at == absl::InfinitePast()) std::this_thread::yield();
}

}  // namespace
}  // namespace ckpt
