// WatchCheckpoints: what exists, then each change.
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "tests/rpc/catalog_fixture.h"

namespace ckpt {
namespace {

using ::testing::ElementsAre;

TEST_F(CatalogTest, WatchSendsWhatExistsThenChanges) {
  Save(IdOf("r", 1));
  live_.Add(IdOf("r", 2), v1::CHECKPOINT_STATE_WRITING);
  Save(IdOf("other", 9));
  std::vector<std::string> seen;
  v1::WatchCheckpointsRequest request;
  request.set_run("r");
  const absl::Status status =
      WatchCheckpoints(*catalog_, request, Never, [&](const v1::WatchCheckpointsResponse& change) {
        if (change.snapshot_end()) {
          seen.push_back("end");
          v1::CheckpointInfo info;  // changes of this run, and of another
          *info.mutable_id() = IdOf("other", 9).ToProto();
          live_.Announce(info, false);
          *info.mutable_id() = IdOf("r", 2).ToProto();
          info.set_state(v1::CHECKPOINT_STATE_STAGED);
          live_.Announce(info, false);
          info.set_state(v1::CHECKPOINT_STATE_COMMITTED);  // the reader misses STAGED
          live_.Announce(info, false);
          *info.mutable_id() = IdOf("r", 1).ToProto();
          live_.Announce(info, true);
          return true;
        }
        seen.push_back(absl::StrCat(change.checkpoint().id().step(), " ",
                                    change.checkpoint().state(),
                                    change.deleted() ? " deleted" : ""));
        return !change.deleted();  // then the caller goes
      });
  EXPECT_TRUE(absl::IsCancelled(status)) << status;
  EXPECT_THAT(seen, ElementsAre("1 3", "2 1", "end", "2 3", "1 3 deleted"));
  EXPECT_EQ(live_.subscribers(), 0u);
}

// More than one batch of them, and two attempts at every step: the later one is what exists.
TEST_F(CatalogTest, WatchSendsEachStepOnceHoweverManyThereAre) {
  std::set<uint64_t> expected;
  for (uint64_t step = 0; step < 2100; ++step) {
    expected.insert(step);
    for (uint8_t incarnation = 1; incarnation <= 2; ++incarnation) {
      v1::CheckpointManifest manifest;
      *manifest.mutable_id() = IdOf("r", step, incarnation).ToProto();
      manifest.set_checkpoint_uid(CheckpointUid::TimeOrdered().bytes());
      ASSERT_TRUE(store_->index().PutCheckpoint(manifest, {}, {}).ok());
    }
  }
  std::set<uint64_t> seen;
  uint64_t sent = 0;
  v1::WatchCheckpointsRequest request;
  WatchCheckpoints(*catalog_, request, Never, [&](const v1::WatchCheckpointsResponse& change) {
    if (change.snapshot_end()) return false;
    ++sent;
    seen.insert(change.checkpoint().id().step());
    EXPECT_EQ(change.checkpoint().id().incarnation(), IncarnationOf(2).bytes());
    return true;
  }).IgnoreError();
  EXPECT_EQ(sent, expected.size());
  EXPECT_EQ(seen, expected);
}

TEST_F(CatalogTest, WatchOfASlowReaderIsBoundedAndEnds) {
  v1::WatchCheckpointsRequest request;
  int changes = 0;
  const absl::Status status =
      WatchCheckpoints(*catalog_, request, Never, [&](const v1::WatchCheckpointsResponse& change) {
        if (!change.snapshot_end()) ++changes;
        v1::CheckpointInfo info;
        for (uint64_t step = 0; change.snapshot_end() && step < 70000; ++step) {
          info.mutable_id()->set_step(step);
          live_.Announce(info, false);
        }
        return true;
      });
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_EQ(changes, 0);
}

TEST_F(CatalogTest, WatchEndsWhenTheCallerHasGone) {
  std::atomic<bool> gone{false};
  std::thread watcher([&] {
    const absl::Status status = WatchCheckpoints(
        *catalog_, {}, [&] { return gone.load(); },
        [](const v1::WatchCheckpointsResponse&) { return true; });
    EXPECT_TRUE(absl::IsCancelled(status)) << status;
  });
  gone = true;
  watcher.join();
}

}  // namespace
}  // namespace ckpt
