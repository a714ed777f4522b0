// While one caller reads a whole checkpoint for `latest_valid`, the others go on: those that ask
// for other runs, that have gone meanwhile, or that change labels.
#include "server/rpc/checkpoint_finder.h"

#include <atomic>
#include <functional>
#include <string>
#include <thread>

#include "absl/time/clock.h"
#include "tests/rpc/restore_fixture.h"

namespace ckpt {
namespace {

v1::Selector LatestValidOf(const std::string& run) {
  v1::Selector selector;
  selector.set_run(run);
  selector.set_latest_valid(true);
  return selector;
}

// Polled by who reads, before the first byte and behind the last: holds him there until told.
class Held {
 public:
  bool operator()() const {
    held_ = true;
    while (!released_) absl::SleepFor(absl::Milliseconds(1));
    return false;
  }
  void Await() {
    while (!held_) absl::SleepFor(absl::Milliseconds(1));
  }
  void Release() { released_ = true; }

 private:
  mutable std::atomic<bool> held_{false};
  std::atomic<bool> released_{false};
};

class CheckpointFinderTest : public RestoreTest {
 protected:
  // Whether `call` returns though nobody lets go of what is held.
  static bool Returns(std::function<void()> call, Held& held) {
    std::atomic<bool> returned{false};
    std::thread thread([&] {
      call();
      returned = true;
    });
    const absl::Time late = absl::Now() + absl::Seconds(10);
    while (!returned && absl::Now() < late) absl::SleepFor(absl::Milliseconds(1));
    const bool in_time = returned;
    held.Release();
    thread.join();
    return in_time;
  }
  absl::Status Tag(const v1::Selector& selector, absl::FunctionRef<bool()> cancelled) {
    v1::TagCheckpointRequest request;
    *request.mutable_selector() = selector;
    request.add_add("best");
    v1::TagCheckpointResponse response;
    return TagCheckpoint(*catalog_, request, cancelled, response);
  }
  absl::Status Annotate(const v1::Selector& selector, absl::FunctionRef<bool()> cancelled) {
    v1::AnnotateCheckpointRequest request;
    *request.mutable_selector() = selector;
    request.set_note("seen");
    v1::AnnotateCheckpointResponse response;
    return AnnotateCheckpoint(*catalog_, request, cancelled, response);
  }
  absl::Status Delete(const v1::Selector& selector, absl::FunctionRef<bool()> cancelled) {
    v1::DeleteCheckpointRequest request;
    *request.mutable_selector() = selector;
    v1::DeleteCheckpointResponse response;
    return DeleteCheckpoint(*catalog_, request, cancelled, response);
  }
};

TEST_F(CheckpointFinderTest, OtherRunsAreNotWaitedFor) {
  Save(IdOf("long", 1));
  Save(IdOf("other", 5));
  Held held;
  std::thread reader([&] {
    EXPECT_TRUE(finder_->Find(LatestValidOf("long"), *Rights::OfTheDaemon(), held).ok());
  });
  held.Await();
  EXPECT_TRUE(Returns(
      [&] {
        const auto found = finder_->Find(LatestValidOf("other"), *Rights::OfTheDaemon(), Never);
        ASSERT_TRUE(found.ok()) << found.status();
        EXPECT_EQ(found->manifest.id().step(), 5u);
      },
      held));
  reader.join();
}

TEST_F(CheckpointFinderTest, WhoWaitsForAnothersReadLeavesWhenHisCallerHasGone) {
  Save(IdOf("r", 1));
  Held held;
  std::thread reader([&] {
    EXPECT_TRUE(finder_->Find(LatestValidOf("r"), *Rights::OfTheDaemon(), held).ok());
  });
  held.Await();
  const absl::Time gone_at = absl::Now() + absl::Milliseconds(50);
  EXPECT_TRUE(Returns(
      [&] {
        const absl::Status left = finder_->Find(LatestValidOf("r"), *Rights::OfTheDaemon(), [&] {
          return absl::Now() >= gone_at;
        }).status();
        EXPECT_TRUE(absl::IsCancelled(left)) << left;
      },
      held));
  reader.join();
}

// The other ranks of a launch believe what the first one has found.
TEST_F(CheckpointFinderTest, OneReadsForAllThatAsk) {
  const CheckpointUid uid = Save(IdOf("r", 1));
  std::atomic<int> polls{0};
  std::atomic<bool> waiting{false};
  std::atomic<bool> damaged{false};
  std::thread reader([&] {
    const auto found = finder_->Find(LatestValidOf("r"), *Rights::OfTheDaemon(), [&] {
      if (++polls < 2) return false;  // at the second all is read
      while (!damaged) absl::SleepFor(absl::Milliseconds(1));
      return false;
    });
    EXPECT_TRUE(found.ok()) << found.status();
  });
  std::thread other([&] {
    while (polls < 2) absl::SleepFor(absl::Milliseconds(1));
    const auto found = finder_->Find(LatestValidOf("r"), *Rights::OfTheDaemon(), [&] {
      waiting = true;
      return false;
    });
    EXPECT_TRUE(found.ok()) << found.status();
  });
  while (!waiting) absl::SleepFor(absl::Milliseconds(1));
  // He would meet it if he read by himself.
  const auto part = store_->index().GetPartHead(uid, 0);
  FlipByte(ObjectPath(part->files(0).file_id()), part->files(0).header_length());
  damaged = true;
  reader.join();
  other.join();
}

// Who reads and is cancelled leaves it to the next one.
TEST_F(CheckpointFinderTest, AReadThatIsCancelledIsDoneByWhoWaits) {
  Save(IdOf("r", 1));
  std::atomic<bool> reading{false};
  std::atomic<bool> waiting{false};
  std::thread reader([&] {
    const absl::Status left = finder_->Find(LatestValidOf("r"), *Rights::OfTheDaemon(), [&] {
      reading = true;
      while (!waiting) absl::SleepFor(absl::Milliseconds(1));
      return true;
    }).status();
    EXPECT_TRUE(absl::IsCancelled(left)) << left;
  });
  while (!reading) absl::SleepFor(absl::Milliseconds(1));
  const auto found = finder_->Find(LatestValidOf("r"), *Rights::OfTheDaemon(), [&] {
    waiting = true;
    return false;
  });
  EXPECT_TRUE(found.ok()) << found.status();
  reader.join();
}

TEST_F(CheckpointFinderTest, LabelsAndDeletionsOfOthersDoNotWaitForARead) {
  using Change = std::function<absl::Status(const v1::Selector&, absl::FunctionRef<bool()>)>;
  const Change changes[] = {
      [&](const v1::Selector& which, absl::FunctionRef<bool()> gone) { return Tag(which, gone); },
      [&](const v1::Selector& which, absl::FunctionRef<bool()> gone) {
        return Annotate(which, gone);
      },
      [&](const v1::Selector& which, absl::FunctionRef<bool()> gone) {
        return Delete(which, gone);
      }};
  uint64_t step = 0;
  for (const Change& change : changes) {
    Save(IdOf("long", ++step));
    Save(IdOf("other", step));
    Held held;
    std::thread reader([&] {
      const absl::Status changed = change(LatestValidOf("long"), held);
      EXPECT_TRUE(changed.ok()) << changed;
    });
    held.Await();
    EXPECT_TRUE(Returns(
        [&] {
          const absl::Status tagged = Tag(StepOf("other", step), Never);
          EXPECT_TRUE(tagged.ok()) << tagged;
        },
        held));
    reader.join();
  }
  EXPECT_EQ(store_->index().FindTag("long", "best")->manifest.id().step(), 1u);
  EXPECT_EQ(store_->index().FindLatest("long", 100, true)->manifest.id().step(), 2u);
  EXPECT_EQ(store_->index().FindLatest("long", 100, true)->labels.note(), "seen");
}

// As where an allowed caller has used up all descriptors: the call fails, and `latest` still answers
// the newest.
TEST_F(CheckpointFinderTest, WhatCannotBeReadNowIsNotTakenForDamage) {
  TemporaryFolder shadow;
  FaultyFileSystem files(shadow.path());
  const auto store = Store::Open(scratch_.path() + "/other", &files);
  ASSERT_TRUE(store.ok()) << store.status();
  CheckpointFinder finder(&(*store)->index(), &(*store)->folder(), &memory_);
  Catalog catalog{&(*store)->index(), &(*store)->folder(), &(*store)->persister(), &live_,
                  &memory_,           &finder,             retention_.get()};
  ASSERT_TRUE((*store)->Save(IdOf("r", 1), CheckpointUid::TimeOrdered(), {100}).ok());
  const CheckpointUid uid = CheckpointUid::TimeOrdered();
  const auto record = (*store)->Save(IdOf("r", 2), uid, {100});
  ASSERT_TRUE(record.ok()) << record.status();
  const auto part = (*store)->index().GetPartHead(uid, 0);
  const std::string unread[] = {
      names::CheckpointManifest(uid), names::Labels(uid),
      names::PartManifest(*FileId::FromBytes(record->manifest.parts(0).manifest_id(), "id")),
      names::DataFile(*FileId::FromBytes(part->files(0).file_id(), "id"))};
  const auto latest = [&](const v1::Selector& selector) {
    const auto found = finder.Find(selector, *Rights::OfTheDaemon(), Never);
    return found.ok() ? found->manifest.id().step() : 0;
  };
  for (const std::string& name : unread) {
    SCOPED_TRACE(name);
    const auto fail = [&] {
      files.Restart();
      files.FailOn(FaultyFileSystem::Call::kRead, name, 1,
                   absl::InternalError("open failed: Too many open files"));
    };
    fail();
    const absl::Status found =
        finder.Find(LatestValidOf("r"), *Rights::OfTheDaemon(), Never).status();
    EXPECT_TRUE(absl::IsInternal(found)) << found;
    fail();
    v1::VerifyCheckpointRequest request;
    *request.mutable_selector() = StepOf("r", 2);
    const absl::Status verified =
        VerifyCheckpoint(catalog, request, Never, [](const v1::VerifyCheckpointResponse& response) {
          EXPECT_EQ(response.damage_size(), 0);
          return true;
        });
    EXPECT_TRUE(absl::IsInternal(verified)) << verified;
    EXPECT_EQ(finder.damage().count(), 0u);
    EXPECT_EQ(latest(LatestOf("r")), 2u);
  }
  EXPECT_EQ(latest(LatestValidOf("r")), 2u);
}

TEST_F(CheckpointFinderTest, WhatWasDeletedWhileItWasReadIsNotFound) {
  const CheckpointUid uid = Save(IdOf("r", 1));
  Save(IdOf("r", 2));
  const auto ahead = finder_->FindAhead(LatestValidOf("r"), *Rights::OfTheDaemon(), Never);
  ASSERT_TRUE(ahead.ok() && ahead->has_value()) << ahead.status();
  EXPECT_EQ((*ahead)->manifest.id().step(), 2u);
  ASSERT_TRUE(Delete(StepOf("r", 2), Never).ok());
  const absl::Status gone =
      finder_->FindNow(LatestValidOf("r"), *Rights::OfTheDaemon(), *ahead).status();
  EXPECT_TRUE(absl::IsNotFound(gone)) << gone;
  EXPECT_TRUE(store_->index().GetCheckpoint(uid).ok());
}

}  // namespace
}  // namespace ckpt
