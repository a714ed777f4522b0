// Pages are recycled, not cleared: whose old bytes can be seen through them, by whom.
#include <unistd.h>

#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/staging/staging_rig.h"

namespace ckpt {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class RecycledPages : public ::testing::Test {
 protected:

  // A part of `bytes`, acquired by that run over that session; written by the daemon where there is
  // none, else through the client's mapping.
  std::shared_ptr<StagingFile> Write(const std::string& run, SessionClient* client, uint64_t bytes,
                                     char fill) {
    auto folder = rig_.tier().NewFolder();
    auto check = [] { return absl::OkStatus(); };
    auto file = rig_.tier().Acquire({client != nullptr ? rig_.Find(*client) : nullptr, run, bytes,
                                     v1::ON_FULL_REFUSE, absl::InfiniteFuture(), check},
                                    *folder);
    EXPECT_TRUE(file.ok()) << file.status();
    const std::string content(bytes, fill);
    if (client != nullptr) {
      const SessionClient::File granted = client->Granted((*file)->id().bytes());
      seen_at_grant_ = std::string(granted.mapping, granted.length);
      std::memcpy(granted.mapping, content.data(), content.size());
    } else {
      EXPECT_TRUE((*file)->Write(0, content).ok());
    }
    return *std::move(file);
  }
  // Its part is committed, with a memory copy that may be read.
  CheckpointUid Commit(const std::string& run, std::shared_ptr<StagingFile> file) {
    const CheckpointUid uid = CheckpointUid::TimeOrdered();
    const FileId id = file->id();
    file = nullptr;
    EXPECT_TRUE(rig_.tier().SetCopy(id, run, uid, 0));
    return uid;
  }
  // All that a reader gets of it: the descriptor that he is granted.
  static std::string ReadAll(int descriptor) {
    std::string bytes(static_cast<size_t>(lseek(descriptor, 0, SEEK_END)), '\0');
    EXPECT_EQ(pread(descriptor, bytes.data(), bytes.size(), 0),
              static_cast<ssize_t>(bytes.size()));
    return bytes;
  }

  StagingRig rig_{{.budget_bytes = 64 * kMiB}};
  std::string seen_at_grant_;
};

TEST_F(RecycledPages, OfAStreamedPartShowNothingBehindAShorterPartOfAnotherRun) {
  const FileId first = [&] {
    auto file = Write("team-a/run", nullptr, 4 * kMiB, 'A');
    const FileId id = file->id();
    rig_.tier().Release(std::move(file));
    return id;
  }();
  auto file = Write("team-b/run", nullptr, 3 * kMiB, 'B');
  EXPECT_NE(file->id(), first);
  const CheckpointUid uid = Commit("team-b/run", std::move(file));
  const auto pin = rig_.tier().Pin(uid, 0);
  ASSERT_NE(pin, nullptr);
  EXPECT_THAT(ReadAll(pin->read_only_descriptor()), Not(HasSubstr("A")));
}

TEST_F(RecycledPages, OfOneSessionAreNotUsedForAnotherRun) {
  SessionClient trainer(rig_.socket_path());
  auto first = Write("team-a/run", &trainer, 4 * kMiB, 'A');
  const FileId id = first->id();
  rig_.tier().Release(std::move(first));
  auto other = Write("team-b/run", &trainer, 3 * kMiB, 'B');
  EXPECT_NE(other->id(), id);
  EXPECT_THAT(seen_at_grant_, Not(HasSubstr("A")));
  // The run that it belongs to has it again.
  auto again = Write("team-a/run", &trainer, 4 * kMiB, 'A');
  EXPECT_EQ(again->id(), id);
}

TEST_F(RecycledPages, AreNotSeenByWhoStillHoldsTheDescriptorOfAnEarlierRun) {
  auto mine = Write("team-a/run", nullptr, 4 * kMiB, 'A');
  const CheckpointUid uid = Commit("team-a/run", std::move(mine));
  auto pin = rig_.tier().Pin(uid, 0);
  ASSERT_NE(pin, nullptr);
  // What a reader keeps who does not close what he was lent.
  const int kept = dup(pin->read_only_descriptor());
  pin = nullptr;
  rig_.tier().Drop(uid);  // deleted: idle, to be recycled
  auto theirs = Write("team-b/run", nullptr, 4 * kMiB, 'B');
  EXPECT_THAT(ReadAll(kept), Not(HasSubstr("B")));
  close(kept);
}

TEST_F(RecycledPages, OfAnEndedSessionAreNeverRecycled) {
  FileId id;
  {
    SessionClient trainer(rig_.socket_path());
    auto file = Write("team-a/run", &trainer, 4 * kMiB, 'A');
    id = file->id();
    rig_.tier().Release(std::move(file));
  }
  SessionClient next(rig_.socket_path());
  auto file = Write("team-a/run", &next, 4 * kMiB, 'A');
  EXPECT_NE(file->id(), id);
  EXPECT_EQ(seen_at_grant_, std::string(seen_at_grant_.size(), '\0'));
}

TEST_F(RecycledPages, PreparedFilesServeAnyRunOfTheirSession) {
  SessionClient trainer(rig_.socket_path());
  auto prepared = rig_.tier().Prepare(rig_.Find(trainer), 4 * kMiB, 1);
  ASSERT_TRUE(prepared.ok()) << prepared.status();
  auto file = Write("team-a/run", &trainer, 4 * kMiB, 'A');
  EXPECT_EQ(file->id(), prepared->files[0]);
}

// Idle files of other runs are in nobody's way when memory is short.
TEST_F(RecycledPages, OfOtherRunsAreGivenUpForMemory) {
  SessionClient trainer(rig_.socket_path());
  for (int run = 0; run < 8; ++run) {
    for (SessionClient* client : {static_cast<SessionClient*>(nullptr), &trainer}) {
      rig_.tier().Release(Write(absl::StrCat("run", run), client, 20 * kMiB, 'x'));
      EXPECT_LE(rig_.tier().usage().used_bytes, 64 * kMiB);
    }
  }
}

}  // namespace
}  // namespace ckpt
