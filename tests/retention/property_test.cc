// Whatever the order of saves, deletions, labels, policies, crashes and rebuilt indexes: after
// every step the newest committed checkpoint is there, every pinned and every tagged one too, and
// each of them byte for byte; after every crash all have the labels that were answered.
// CKPT_PROPERTY_STEPS makes it longer, CKPT_PROPERTY_SEED makes it another one.
#include <filesystem>
#include <map>
#include <random>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "google/protobuf/util/message_differencer.h"
#include "gtest/gtest.h"
#include "server/retention/retention.h"
#include "server/storage/names.h"
#include "tests/fakes/faulty_rocks.h"
#include "tests/fixtures/setting.h"
#include "tests/persist/persist_fixture.h"

namespace ckpt {
namespace {

using ::google::protobuf::util::MessageDifferencer;

const std::vector<uint64_t> kSizes = {5000, 3};

// What somebody was told is there.
struct Saved {
  CheckpointId id;
  uint32_t seed = 0;
  v1::Labels labels;
  bool labelled() const { return labels.pinned() || labels.tags_size() > 0; }
};

class RetentionProperty : public testing::TestWithParam<uint32_t> {
 protected:
  void Open() {
    std::filesystem::remove_all(shadow_);
    std::filesystem::create_directory(shadow_);
    rocks_.reset();
    files_ = std::make_unique<FaultyFileSystem>(shadow_);
    files_->KeepOrderIn(absl::StrCat("/", names::kIndex));  // as tests/crash/README.md says
    files_->KeepPrefixesOf("/MANIFEST-");
    rocks_ = MakeFaultyRocks(files_.get(), 64 << 20);
    auto store = Store::Open(path_, files_.get(), Store::SmallWrites(), rocks_.get());
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    const auto report = RecoverDataFolder(&store_->folder(), &store_->index(), {});
    ASSERT_TRUE(report.ok()) << report.status();
    ASSERT_EQ(report->damaged, 0u) << testing::PrintToString(report->damage);
    retention_ = std::make_unique<Retention>(RetentionOptions{.folder = &store_->folder(),
                                                              .index = &store_->index(),
                                                              .persister = &store_->persister(),
                                                              .look_again = absl::Hours(1)});
    retention_->Start({});
  }
  void Close() {
    retention_.reset();
    store_.reset();
  }

  uint32_t Below(uint32_t bound) { return std::uniform_int_distribution(0u, bound - 1)(random_); }

  void Save() {
    const bool back = Below(5) == 0 && !saved_.empty();
    if (Below(6) == 0) NewLaunch();
    CheckpointId id =
        IdOf("run", back ? Below(static_cast<uint32_t>(step_)) + 1 : ++step_, launch_);
    if (back) id.incarnation = IncarnationOf(NewLaunch());
    const CheckpointUid uid = CheckpointUid::TimeOrdered();
    Saved made{.id = id, .seed = ++seed_};
    maybe_ = {uid, made};
    const absl::Status saved = store_->Save(id, uid, kSizes, 1, made.seed).status();
    // Committed, and perhaps not in the index any more: the next start tells.
    if (saved.ok() && !files_->crashed()) Settle();
  }
  uint8_t NewLaunch() { return launch_ < 250 ? ++launch_ : launch_; }
  // One whose save was under way is there or it is not; what it replaced goes, unless it is
  // labelled.
  void Settle() {
    if (!maybe_.has_value()) return;
    if (store_->index().GetCheckpoint(maybe_->first).ok()) {
      std::erase_if(saved_, [&](const auto& entry) {
        return entry.second.id.step == maybe_->second.id.step && !entry.second.labelled();
      });
      saved_.insert(*maybe_);
    }
    maybe_.reset();
  }

  std::map<CheckpointUid, Saved>::iterator Pick() {
    return std::next(saved_.begin(), Below(static_cast<uint32_t>(saved_.size())));
  }
  void Label() {
    if (saved_.empty()) return;
    MutexLock lock(retention_->changing());
    auto chosen = Pick();
    if (!store_->index().GetCheckpoint(chosen->first).ok()) return;  // retention was there first
    v1::Labels labels = chosen->second.labels;
    switch (Below(4)) {
      case 0: labels.set_pinned(true); break;
      case 1: labels.set_pinned(false); break;
      case 2: *labels.mutable_tags()->Add() = absl::StrCat("t", ++tag_); break;
      default: labels.clear_tags();
    }
    (*labels.mutable_metrics())["loss"] = Below(100);
    relabelled_ = {chosen->first, labels};
    if (!store_->folder().WriteLabels(chosen->first, labels).ok()) return;
    if (!store_->index().PutLabels(chosen->first, labels).ok()) return;
    chosen->second.labels = labels;
    relabelled_.reset();
  }
  // Labels that were answered are there after the crash; those whose writing was cut off are there
  // or the ones before.
  void CheckLabels() {
    for (auto& [uid, saved] : saved_) {
      const auto record = store_->index().GetCheckpoint(uid);
      if (!record.ok()) continue;  // CheckPromises says whether it may be gone
      const bool cut_off = relabelled_.has_value() && relabelled_->first == uid;
      EXPECT_TRUE(MessageDifferencer::Equals(record->labels, saved.labels) ||
                  (cut_off && MessageDifferencer::Equals(record->labels, relabelled_->second)))
          << saved.id.ToString() << " has " << record->labels.ShortDebugString() << ", answered was "
          << saved.labels.ShortDebugString()
          << (cut_off ? ", cut off " + relabelled_->second.ShortDebugString() : "");
      saved.labels = record->labels;
    }
    relabelled_.reset();
  }
  void DeleteOne() {
    if (saved_.empty()) return;
    MutexLock lock(retention_->changing());
    ForgetWhatMayGo();  // what went because the one that is deleted now was newer
    auto chosen = Pick();
    if (chosen->second.labels.pinned()) return;
    // Even where it fails: from the tombstone on it is gone.
    store_->persister().Delete(chosen->first).IgnoreError();
    if (!store_->index().GetCheckpoint(chosen->first).ok()) saved_.erase(chosen);
  }
  // What promises nothing and is gone.
  void ForgetWhatMayGo() {
    const uint64_t newest = NewestStep();
    for (auto it = saved_.begin(); it != saved_.end();) {
      const bool gone = absl::IsNotFound(store_->index().GetCheckpoint(it->first).status());
      it = gone && !it->second.labelled() && !IsWinner(it, newest) ? saved_.erase(it)
                                                                   : std::next(it);
    }
  }
  uint64_t NewestStep() const {
    uint64_t newest = 0;
    for (const auto& [uid, saved] : saved_) newest = std::max(newest, saved.id.step);
    return newest;
  }
  void ChangePolicy() {
    v1::RetentionPolicy policy;
    if (Below(2) == 0) policy.set_keep_last(1 + Below(4));
    if (Below(3) == 0) policy.set_keep_every(1 + Below(5));
    if (Below(3) == 0) {
      policy.mutable_keep_best()->set_metric("loss");
      policy.mutable_keep_best()->set_direction(v1::KeepBest::DIRECTION_MIN);
      policy.mutable_keep_best()->set_count(1 + Below(2));
    }
    if (Below(3) == 0) policy.set_max_bytes(1 + Below(40'000));
    if (Below(4) == 0) policy.mutable_max_age()->set_seconds(1 + Below(2));
    retention_->SetPolicy("run", policy).IgnoreError();
  }

  void Step() {
    switch (Below(10)) {
      case 0: case 1: case 2: case 3: Save(); break;
      case 4: case 5: Label(); break;
      case 6: DeleteOne(); break;
      case 7: ChangePolicy(); break;
      default: retention_->MakeRoom();
    }
  }

  // A step that is cut off at one of its operations; then a start, perhaps with another index.
  void Crash() {
    files_->CrashAt(files_->operations() + 1 + Below(40));
    Step();
    retention_->MakeRoom();
    Close();
    switch (Below(4)) {
      case 0: files_->PowerLoss(); break;
      case 1: files_->PowerLoss(random_()); break;
      default: break;  // only the process died
    }
    const bool rebuild = Below(4) == 0;
    if (rebuild) std::filesystem::remove_all(path_ + "/index");
    Open();
    if (HasFatalFailure()) return;
    Settle();
    CheckLabels();
    if (!rebuild || store_->index().CheckpointCount() == 0) return;
    EXPECT_TRUE(retention_->AwaitsConfirmation().value());
    const uint64_t before = store_->index().CheckpointCount();
    retention_->MakeRoom();
    EXPECT_EQ(store_->index().CheckpointCount(), before);
    EXPECT_TRUE(retention_->Confirm().value());
  }

  void CheckPromises() {
    ForgetWhatMayGo();
    const uint64_t newest = NewestStep();
    for (auto it = saved_.begin(); it != saved_.end(); ++it) {
      const auto& [uid, saved] = *it;
      if (!saved.labelled() && !IsWinner(it, newest)) continue;
      EXPECT_TRUE(store_->index().GetCheckpoint(uid).ok())
          << saved.id.ToString() << " is gone; newest " << newest;
      const absl::Status whole = store_->Check(uid, saved.seed);
      EXPECT_TRUE(whole.ok()) << saved.id.ToString() << ": " << whole;
    }
  }
  // Of the newest step: the attempt that counts.
  bool IsWinner(std::map<CheckpointUid, Saved>::iterator it, uint64_t newest) {
    if (it->second.id.step != newest) return false;
    return std::none_of(saved_.begin(), saved_.end(), [&](const auto& other) {
      return other.second.id.step == newest &&
             std::pair(other.second.id.incarnation, other.first) >
                 std::pair(it->second.id.incarnation, it->first);
    });
  }

  TemporaryFolder folder_;
  const std::string path_ = folder_.path() + "/data";
  const std::string shadow_ = folder_.path() + "/shadow";
  std::mt19937 random_;
  uint64_t step_ = 0;
  uint8_t launch_ = 1;
  uint32_t seed_ = 0;
  int tag_ = 0;
  std::map<CheckpointUid, Saved> saved_;
  std::optional<std::pair<CheckpointUid, Saved>> maybe_;
  std::optional<std::pair<CheckpointUid, v1::Labels>> relabelled_;  // and not answered
  std::unique_ptr<FaultyFileSystem> files_;
  std::shared_ptr<IndexEnvironment> rocks_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<Retention> retention_;
};

TEST_P(RetentionProperty, NewestPinnedAndTaggedOnesAreAlwaysThere) {
  const uint64_t seed = TestSetting("CKPT_PROPERTY_SEED", GetParam());
  const uint64_t steps = TestSetting("CKPT_PROPERTY_STEPS", 150);
  random_.seed(seed);
  ASSERT_NO_FATAL_FAILURE(Open());
  for (uint64_t i = 0; i < steps; ++i) {
    SCOPED_TRACE(absl::StrCat("CKPT_PROPERTY_SEED=", seed, ", step ", i));
    if (Below(8) == 0) {
      Crash();
    } else {
      Step();
    }
    if (HasFatalFailure()) return;
    CheckPromises();
    if (HasFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, RetentionProperty, testing::Values(1, 2, 3, 4));

}  // namespace
}  // namespace ckpt
