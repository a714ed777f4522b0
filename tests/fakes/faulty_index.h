// An index in front of a real one that takes no checkpoint while it is told to fail: a full disk,
// as far as the daemon can tell. Thread-safe.
#ifndef CKPT_TESTS_FAKES_FAULTY_INDEX_H_
#define CKPT_TESTS_FAKES_FAULTY_INDEX_H_

#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "server/index/index.h"

namespace ckpt {

class FaultyIndex : public Index {
 public:
  explicit FaultyIndex(std::unique_ptr<Index> real) : real_(std::move(real)) {}
  void SetFull(bool full) { full_ = full; }
  int refused() const { return refused_; }
  void SetAbortsFail(bool fail) { aborts_fail_ = fail; }
  // Each PutAborted takes so long.
  void SetAbortPause(absl::Duration pause) { abort_pause_ = pause; }

  absl::Status PutCheckpoint(
      const v1::CheckpointManifest& manifest, const std::vector<v1::PartManifest>& parts,
      const v1::Labels& labels,
      absl::Span<const std::shared_ptr<const PartLayout>> layouts = {}) override {
    if (!full_) return real_->PutCheckpoint(manifest, parts, labels, layouts);
    ++refused_;
    return absl::ResourceExhaustedError("the index's disk is full");
  }

  absl::Status PutLabels(CheckpointUid uid, const v1::Labels& labels) override {
    return real_->PutLabels(uid, labels);
  }
  absl::Status PutComparison(CheckpointUid uid, uint64_t step, uint64_t bytes) override {
    return real_->PutComparison(uid, step, bytes);
  }
  absl::Status PutDamage(CheckpointUid uid, const std::optional<DamageRecord>& damage) override {
    if (full_) return absl::ResourceExhaustedError("the index's disk is full");
    return real_->PutDamage(uid, damage);
  }
  absl::Status ForEachDamage(
      absl::FunctionRef<void(CheckpointUid, const DamageRecord&)> visit) override {
    return real_->ForEachDamage(visit);
  }
  absl::Status Tombstone(CheckpointUid uid) override { return real_->Tombstone(uid); }
  absl::Status FinishTombstone(CheckpointUid uid) override { return real_->FinishTombstone(uid); }
  absl::Status PutAborted(const v1::CheckpointInfo& info) override {
    absl::SleepFor(abort_pause_.load());
    if (aborts_fail_) return absl::ResourceExhaustedError("the index's disk is full");
    return real_->PutAborted(info);
  }
  absl::Status ForgetAbortedBefore(absl::Time time) override {
    return real_->ForgetAbortedBefore(time);
  }
  absl::StatusOr<CheckpointRecord> GetCheckpoint(CheckpointUid uid) override {
    return real_->GetCheckpoint(uid);
  }
  absl::StatusOr<CheckpointRecord> FindStep(const std::string& run, uint64_t step,
                                            std::optional<Incarnation> incarnation) override {
    return real_->FindStep(run, step, incarnation);
  }
  absl::StatusOr<CheckpointRecord> FindLatest(const std::string& run, uint64_t step_max,
                                              bool whole_only) override {
    return real_->FindLatest(run, step_max, whole_only);
  }
  absl::StatusOr<CheckpointRecord> FindTag(const std::string& run,
                                           const std::string& tag) override {
    return real_->FindTag(run, tag);
  }
  absl::StatusOr<v1::CheckpointInfo> FindAborted(const CheckpointId& id) override {
    return real_->FindAborted(id);
  }
  absl::StatusOr<std::optional<Incarnation>> NewestIncarnation(const std::string& run) override {
    return real_->NewestIncarnation(run);
  }
  absl::Status ForEachCheckpoint(const std::string& run, std::optional<uint64_t> below_step,
                                 absl::FunctionRef<bool(const CheckpointRecord&)> visit) override {
    return real_->ForEachCheckpoint(run, below_step, visit);
  }
  absl::Status ForEachAborted(const std::string& run,
                              absl::FunctionRef<bool(const v1::CheckpointInfo&)> visit) override {
    return real_->ForEachAborted(run, visit);
  }
  absl::Status ForEachRun(const std::string& prefix, const std::string& after,
                          absl::FunctionRef<bool(const v1::RunInfo&)> visit) override {
    return real_->ForEachRun(prefix, after, visit);
  }
  absl::Status ForEachRunTotals(
      const std::string& prefix,
      absl::FunctionRef<void(absl::string_view run, uint64_t checkpoints, uint64_t data_bytes)>
          visit) override {
    return real_->ForEachRunTotals(prefix, visit);
  }
  absl::StatusOr<std::unique_ptr<LeafCursor>> OpenLeaves(const std::string& digest) override {
    return real_->OpenLeaves(digest);
  }
  absl::StatusOr<std::vector<CheckpointUid>> Tombstones() override { return real_->Tombstones(); }
  absl::StatusOr<CheckpointRecord> GetTombstone(CheckpointUid uid) override {
    return real_->GetTombstone(uid);
  }
  absl::Status ForEachFile(absl::FunctionRef<bool(FileId, CheckpointUid)> visit) override {
    return real_->ForEachFile(visit);
  }
  absl::StatusOr<bool> IsShared(FileId file, CheckpointUid uid) override {
    return real_->IsShared(file, uid);
  }
  absl::StatusOr<std::vector<CheckpointUid>> AllCheckpoints() override {
    return real_->AllCheckpoints();
  }
  absl::StatusOr<v1::PartManifest> GetPartHead(CheckpointUid uid, uint32_t rank) override {
    return real_->GetPartHead(uid, rank);
  }
  absl::StatusOr<std::vector<uint64_t>> ReadBlockHashes(CheckpointUid uid, uint32_t rank,
                                                        uint64_t row) override {
    return real_->ReadBlockHashes(uid, rank, row);
  }
  absl::StatusOr<ValueRow> ReadValues(CheckpointUid uid, uint32_t rank,
                                      absl::string_view printed_key) override {
    return real_->ReadValues(uid, rank, printed_key);
  }
  std::shared_ptr<const PartLayout> FindLayout(const std::string& digest) override {
    return real_->FindLayout(digest);
  }
  void KeepLayout(std::shared_ptr<const PartLayout> layout) override {
    real_->KeepLayout(std::move(layout));
  }
  absl::Status PrepareLayout(const PartLayout& layout) override {
    return real_->PrepareLayout(layout);
  }
  void ForgetLayoutsUnusedSince(absl::Time time) override { real_->ForgetLayoutsUnusedSince(time); }
  absl::Status VerifyFiles() override { return real_->VerifyFiles(); }
  absl::Status AwaitConfirmation() override { return real_->AwaitConfirmation(); }
  absl::StatusOr<bool> KnowsPolicies() override { return real_->KnowsPolicies(); }
  absl::Status SetKnowsPolicies(bool known) override { return real_->SetKnowsPolicies(known); }
  absl::StatusOr<bool> AwaitsConfirmation() override { return real_->AwaitsConfirmation(); }
  absl::Status Confirm() override { return real_->Confirm(); }
  uint64_t CheckpointCount() override { return real_->CheckpointCount(); }

 private:
  const std::unique_ptr<Index> real_;
  std::atomic<bool> full_ = false;
  std::atomic<bool> aborts_fail_{false};
  std::atomic<absl::Duration> abort_pause_{absl::ZeroDuration()};
  std::atomic<int> refused_ = 0;
};

}  // namespace ckpt

#endif  // CKPT_TESTS_FAKES_FAULTY_INDEX_H_
