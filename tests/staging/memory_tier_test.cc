#include "server/staging/memory_tier.h"

#include <sys/mman.h>
#include <unistd.h>

#include <thread>

#include "gtest/gtest.h"
#include "tests/staging/staging_rig.h"

namespace ckpt {
namespace {

// Polls something that another process's end makes true.
template <typename Condition>
void Await(Condition condition) {
  const absl::Time deadline = absl::Now() + absl::Seconds(30);
  while (!condition()) {
    ASSERT_LT(absl::Now(), deadline);
    absl::SleepFor(absl::Milliseconds(1));
  }
}

class MemoryTierTest : public ::testing::Test {
 protected:
  StagingRig rig_{{.budget_bytes = 16 * kMiB}};
  MemoryTier& tier() { return rig_.tier(); }

  absl::StatusOr<std::shared_ptr<StagingFile>> Acquire(const std::shared_ptr<Session>& session,
                                                       uint64_t bytes, v1::OnFull on_full,
                                                       const std::string& run = "run") {
    auto folder = tier().NewFolder();
    auto check = [] { return absl::OkStatus(); };
    return tier().Acquire({session, run, bytes, on_full, absl::InfiniteFuture(), check}, *folder);
  }
};

TEST_F(MemoryTierTest, PrepareGrantsFilesBeforeItAnswers) {
  SessionClient client(rig_.socket_path());
  auto prepared = tier().Prepare(rig_.Find(client), 3 * kMiB + 1, 2);
  ASSERT_TRUE(prepared.ok()) << prepared.status();
  EXPECT_EQ(prepared->files.size(), 2u);
  EXPECT_FALSE(prepared->ring);
  EXPECT_GE(prepared->file_bytes, 3 * kMiB + 1);
  for (const FileId& id : prepared->files) {
    EXPECT_NE(client.Granted(id.bytes()).mapping, nullptr);
  }
  EXPECT_EQ(tier().usage().used_bytes, 2 * prepared->file_bytes);
}

TEST_F(MemoryTierTest, PrepareIsIdempotent) {
  SessionClient client(rig_.socket_path());
  auto first = tier().Prepare(rig_.Find(client), kMiB, 2);
  auto second = tier().Prepare(rig_.Find(client), kMiB, 2);
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(absl::flat_hash_set<FileId>(first->files.begin(), first->files.end()),
            absl::flat_hash_set<FileId>(second->files.begin(), second->files.end()));
  EXPECT_EQ(tier().usage().used_bytes, 2 * kMiB);
}

TEST_F(MemoryTierTest, PrepareGivesFewerWhereTheBudgetHoldsFewer) {
  SessionClient client(rig_.socket_path());
  auto prepared = tier().Prepare(rig_.Find(client), 10 * kMiB, 2);
  ASSERT_TRUE(prepared.ok());
  EXPECT_EQ(prepared->files.size(), 1u);
}

TEST_F(MemoryTierTest, PrepareDoesNotTakeWhatAnotherPrepared) {
  SessionClient one(rig_.socket_path());
  SessionClient two(rig_.socket_path());
  ASSERT_TRUE(tier().Prepare(rig_.Find(one), 10 * kMiB, 1).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(tier().Prepare(rig_.Find(two), 10 * kMiB, 1).status()));
  EXPECT_TRUE(one.revoked().empty());
}

TEST_F(MemoryTierTest, PrepareOfMoreThanTheBudgetIsARing) {
  SessionClient client(rig_.socket_path());
  auto prepared = tier().Prepare(rig_.Find(client), 100 * kMiB, 1);
  ASSERT_TRUE(prepared.ok());
  EXPECT_TRUE(prepared->ring);
  EXPECT_LE(prepared->file_bytes, 16 * kMiB);
}

TEST_F(MemoryTierTest, FilesOfAnEndedSessionAreGivenBack) {
  {
    SessionClient client(rig_.socket_path());
    ASSERT_TRUE(tier().Prepare(rig_.Find(client), 4 * kMiB, 2).ok());
  }
  Await([&] { return tier().usage().used_bytes == 0; });
}

TEST_F(MemoryTierTest, UnlinkedPagesCountForAsLongAsSomebodyHoldsThem) {
  auto client = std::make_unique<SessionClient>(rig_.socket_path());
  auto session = rig_.Find(*client);
  auto prepared = tier().Prepare(session, 4 * kMiB, 1);
  // A child of the trainer that inherited the descriptor, say.
  const int held = dup(client->Granted(prepared->files[0].bytes()).descriptor);
  client = nullptr;
  Await([&] { return session->closed(); });
  Await([&] { return tier().usage().files == 1; });
  EXPECT_EQ(tier().usage().used_bytes, 4 * kMiB);
  close(held);
  EXPECT_EQ(tier().usage().used_bytes, 0u);
}

TEST_F(MemoryTierTest, IdleFilesOfOthersAreRevokedWhenMemoryIsWanted) {
  SessionClient idle(rig_.socket_path());
  SessionClient busy(rig_.socket_path());
  ASSERT_TRUE(tier().Prepare(rig_.Find(idle), 10 * kMiB, 1).ok());
  auto file = Acquire(rig_.Find(busy), 10 * kMiB, v1::ON_FULL_REFUSE);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(idle.revoked().size(), 1u);
  EXPECT_EQ(tier().usage().used_bytes, 10 * kMiB);
}

TEST_F(MemoryTierTest, RevokedPagesAreNotGrantedBeforeTheyAreGivenBack) {
  SessionClient idle(rig_.socket_path());
  SessionClient busy(rig_.socket_path());
  idle.AnswerRevocations(false);
  ASSERT_TRUE(tier().Prepare(rig_.Find(idle), 10 * kMiB, 1).ok());
  absl::StatusOr<std::shared_ptr<StagingFile>> file = absl::UnknownError("");
  std::thread waiter([&] { file = Acquire(rig_.Find(busy), 10 * kMiB, v1::ON_FULL_WAIT); });
  idle.AwaitRevoked(1);
  EXPECT_EQ(tier().usage().used_bytes, 10 * kMiB);
  idle.AnswerNow();
  waiter.join();
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_LE(tier().usage().used_bytes, 16 * kMiB);
}

TEST_F(MemoryTierTest, AFileIsRecycledOverTheSameSessionOnly) {
  SessionClient one(rig_.socket_path());
  SessionClient two(rig_.socket_path());
  auto first = Acquire(rig_.Find(one), 4 * kMiB, v1::ON_FULL_REFUSE);
  ASSERT_TRUE(first.ok());
  const FileId id = (*first)->id();
  tier().Release(*std::move(first));
  auto other = Acquire(rig_.Find(two), 4 * kMiB, v1::ON_FULL_REFUSE);
  ASSERT_TRUE(other.ok());
  EXPECT_NE((*other)->id(), id);
  auto again = Acquire(rig_.Find(one), 4 * kMiB, v1::ON_FULL_REFUSE);
  ASSERT_TRUE(again.ok());
  EXPECT_EQ((*again)->id(), id);
}

TEST_F(MemoryTierTest, ATruncatedFileIsNeverRecycled) {
  SessionClient client(rig_.socket_path());
  auto first = Acquire(rig_.Find(client), 4 * kMiB, v1::ON_FULL_REFUSE);
  ASSERT_TRUE(first.ok());
  const FileId id = (*first)->id();
  ASSERT_EQ(ftruncate(client.Granted(id.bytes()).descriptor, 0), 0);
  tier().Release(*std::move(first));
  auto again = Acquire(rig_.Find(client), 4 * kMiB, v1::ON_FULL_REFUSE);
  ASSERT_TRUE(again.ok());
  EXPECT_NE((*again)->id(), id);
  EXPECT_TRUE((*again)->Intact());
}

TEST_F(MemoryTierTest, ACopyIsServedPinnedAndThenDropped) {
  auto file = Acquire(nullptr, 4 * kMiB, v1::ON_FULL_REFUSE);
  ASSERT_TRUE(file.ok());
  const CheckpointUid uid = CheckpointUid::TimeOrdered();
  const FileId id = (*file)->id();
  ASSERT_TRUE((*file)->Write(0, "bytes").ok());
  *file = nullptr;
  ASSERT_TRUE(tier().SetCopy(id, "run", uid, 3));
  tier().SetNewest("run", uid);
  EXPECT_TRUE(tier().Has(uid, 3));
  EXPECT_EQ(tier().Pin(uid, 4), nullptr);
  auto pin = tier().Pin(uid, 3);
  ASSERT_NE(pin, nullptr);
  EXPECT_EQ(pin->file_id(), id);
  tier().Drop(uid);
  char read[5];
  EXPECT_EQ(pread(pin->read_only_descriptor(), read, 5, 0), 5);
  EXPECT_EQ(std::string(read, 5), "bytes");
  EXPECT_EQ(tier().Pin(uid, 3), nullptr) << "dropped: nobody new gets it";
  pin = nullptr;
  EXPECT_FALSE(tier().Has(uid, 3));
}

TEST_F(MemoryTierTest, APinnedCopyIsNotGivenUpForMemory) {
  auto file = Acquire(nullptr, 10 * kMiB, v1::ON_FULL_REFUSE);
  const CheckpointUid uid = CheckpointUid::TimeOrdered();
  const FileId id = (*file)->id();
  *file = nullptr;
  ASSERT_TRUE(tier().SetCopy(id, "run", uid, 0));
  auto pin = tier().Pin(uid, 0);
  EXPECT_TRUE(absl::IsResourceExhausted(Acquire(nullptr, 10 * kMiB, v1::ON_FULL_REFUSE).status()));
  pin = nullptr;
  EXPECT_TRUE(Acquire(nullptr, 10 * kMiB, v1::ON_FULL_REFUSE).ok());
}

// As where a small part has very many shards.
TEST_F(MemoryTierTest, RecordsOfACopyCountAgainstTheBudget) {
  const auto folder = tier().NewFolder();
  ASSERT_TRUE(folder.ok()) << folder.status();
  const auto check = [] { return absl::OkStatus(); };
  auto first = tier().Acquire(
      {nullptr, "a", 8 * kMiB, v1::ON_FULL_REFUSE, absl::InfiniteFuture(), check}, *folder);
  ASSERT_TRUE(first.ok()) << first.status();
  staging::StagedPlan plan;
  plan.mutable_values()->add_entries()->mutable_value()->set_raw(std::string(3 * kMiB, 'v'));
  ASSERT_TRUE((*folder)->WritePlan(plan).ok());
  const CheckpointUid uid = CheckpointUid::TimeOrdered();
  const FileId id = (*first)->id();
  first = absl::UnknownError("given away");
  ASSERT_TRUE(tier().SetCopy(id, "a", uid, 0));
  EXPECT_GE(tier().usage().record_bytes, 3 * kMiB);
  EXPECT_GE(tier().usage().used_bytes, 11 * kMiB);
  {
    const auto fits = Acquire(nullptr, 4 * kMiB, v1::ON_FULL_REFUSE, "b");
    ASSERT_TRUE(fits.ok()) << fits.status();
    EXPECT_TRUE(tier().Has(uid, 0)) << "there was room beside it";
  }
  const auto second = Acquire(nullptr, 4 * kMiB, v1::ON_FULL_REFUSE, "c");
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_FALSE(tier().Has(uid, 0)) << "it had to make room";
  EXPECT_LE(tier().usage().used_bytes, 16 * kMiB);
}

// A budget of two parts holds two: what their plans and marks take is not held against the second.
TEST_F(MemoryTierTest, SmallRecordsKeepOutNoPartThatJustFits) {
  const auto check = [] { return absl::OkStatus(); };
  std::vector<std::shared_ptr<StagingFile>> files;
  for (int i = 0; i < 2; ++i) {
    const auto folder = tier().NewFolder();
    ASSERT_TRUE(folder.ok()) << folder.status();
    auto file = tier().Acquire(
        {nullptr, "a", 8 * kMiB, v1::ON_FULL_REFUSE, absl::InfiniteFuture(), check}, *folder);
    ASSERT_TRUE(file.ok()) << i << ": " << file.status();
    files.push_back(*std::move(file));
    staging::StagedPlan plan;
    plan.mutable_values()->add_entries()->mutable_value()->set_raw(std::string(20'000, 'v'));
    ASSERT_TRUE((*folder)->WritePlan(plan).ok());
  }
  EXPECT_GT(tier().usage().used_bytes, 16 * kMiB);
  EXPECT_TRUE(absl::IsResourceExhausted(Acquire(nullptr, kMiB, v1::ON_FULL_REFUSE).status()));
}

TEST_F(MemoryTierTest, ASecondDaemonOnTheSameFolderIsRefused) {
  MemoryTierOptions options;
  options.folder = rig_.memory_folder();
  options.budget_bytes = kMiB;
  EXPECT_TRUE(absl::IsFailedPrecondition(MemoryTier::Open(options).status()));
}

TEST_F(MemoryTierTest, ManyThreadsNeverPassTheBudget) {
  std::vector<std::thread> threads;
  std::atomic<bool> passed{false};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 25; ++i) {
        auto file = Acquire(nullptr, (1 + (t + i) % 6) * kMiB, v1::ON_FULL_WAIT);
        ASSERT_TRUE(file.ok()) << file.status();
        if (tier().usage().used_bytes > 16 * kMiB) passed = true;
        tier().Release(*std::move(file));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(passed);
}

}  // namespace
}  // namespace ckpt
