// A RestorePlan over parts in memory: what the daemon would answer, without a daemon. The bytes are
// copied from the parts when it is made.
#ifndef CKPT_TESTS_TORCH_PLAN_OF_PARTS_H_
#define CKPT_TESTS_TORCH_PLAN_OF_PARTS_H_

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "client/restore/restore.h"
#include "client/state/part.h"

namespace ckpt::testing {

class PlanOfParts : public RestorePlan {
 public:
  PlanOfParts(const std::vector<Part>& parts, uint64_t step);
  const v1::CheckpointInfo& checkpoint() const override { return checkpoint_; }
  absl::Span<const v1::PlannedLeaf> leaves() const override { return leaves_; }
  absl::StatusOr<uint32_t> Find(const std::string& printed_key, uint32_t rank) const override;
  bool has_unreadable() const override { return lost_.has_value(); }
  absl::Status Check(absl::Span<const ReadTarget> targets) const override;
  absl::Status Read(absl::Span<const ReadTarget> targets, ReadStatistics* statistics) override;
  const v1::PlanSummary& summary() const override { return summary_; }
  absl::StatusOr<TensorView> View(uint32_t, const Box&) const override {
    return absl::UnimplementedError("there is no file to view");
  }

  // Elements of targets asked for so far.
  uint64_t elements_read() const { return elements_read_; }
  // The next Read fails with this, or the one after as many more.
  void FailNextRead(absl::Status status, int reads_before = 0) {
    fail_ = std::move(status);
    reads_before_fail_ = reads_before;
  }
  // Every Read of that leaf is DATA_LOSS from now on.
  void Damage(const std::string& printed_key) { damaged_ = printed_key; }
  // As if the data file of that leaf were missing.
  void Lose(const std::string& printed_key) { lost_ = printed_key; }

 private:
  struct Stored {
    Box box;
    std::string bytes;
  };
  v1::CheckpointInfo checkpoint_;
  v1::PlanSummary summary_;  // all zero
  std::vector<v1::PlannedLeaf> leaves_;
  std::vector<std::vector<Stored>> stored_;  // by leaf
  uint64_t elements_read_ = 0;
  absl::Status fail_ = absl::OkStatus();
  int reads_before_fail_ = 0;
  std::optional<std::string> damaged_;
  std::optional<std::string> lost_;
};

}  // namespace ckpt::testing

#endif  // CKPT_TESTS_TORCH_PLAN_OF_PARTS_H_
