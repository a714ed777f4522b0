// What one load is going to do, gathered and checked before anything is touched:
//
//   1. gather  the walkers (load.cc, optimizer_load.cc) compare the caller's state with the
//              checkpoint's tree and call Want..., Missing, OnCommit and so on. What has to be
//              looked at for that is read, but not into anything of the caller's
//   2. Check   every complaint in one error; what the rules tolerate is in the report alone
//   3. Read    bytes go into the caller's tensors where they lie dense, else into temporaries. Of
//              damage it finds all, not the first
//   4. Commit  temporaries are copied, hyperparameters and plain values replaced, in gathering
//   order
//
// Steps 1 and 2 change nothing of the caller's. One thread.
#ifndef CKPT_CLIENT_TORCH_LOAD_PLAN_H_
#define CKPT_CLIENT_TORCH_LOAD_PLAN_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "client/restore/restore.h"
#include "client/torch/checkpoint_tree.h"
#include "client/torch/checkpointer.h"
#include "client/torch/load_reads.h"
#include "client/torch/load_rules.h"
#include "client/torch/selected_boxes.h"
#include "common/box.h"

namespace ckpt {

class LoadPlan {
 public:
  // `plan` must outlive it.
  LoadPlan(LoadRules rules, RestorePlan& plan, SelectedBoxes boxes = {})
      : rules_(std::move(rules)), plan_(plan), boxes_(std::move(boxes)) {}
  LoadPlan(const LoadPlan&) = delete;  // its reads refer to its report
  LoadPlan& operator=(const LoadPlan&) = delete;

  // `region` of the stored tensor `node` shall go into `target`, which has the region's shape.
  // Complains where dtype or global shape differ. The whole tensor, or the selected box of it where
  // the target has that one's shape: WantWhole.
  void WantBox(CheckpointNode& node, const at::Tensor& target, const Extents& global_shape,
               const Box& region);
  void WantWhole(CheckpointNode& node, const at::Tensor& target);
  // The two halves of WantBox, for tensors that are read all or not at all: Accepts complains,
  // and is false, where the stored tensor doesn't fit, and is false where it cannot be read and the
  // rules tolerate that; Take is for what was accepted.
  bool Accepts(CheckpointNode& node, const at::Tensor& target, const Extents& global_shape,
               const Box& region);
  // `callers`: the caller sees the tensor before Commit already.
  void Take(const CheckpointNode& node, const at::Tensor& target, const Box& region,
            bool callers = true);
  // False: the plan says that `region` of the leaf `node` cannot be read, and the rules tolerate
  // it. The node is `lost` then, in the report, and not to be asked for.
  bool Readable(CheckpointNode& node, const Box& region);
  // What of a leaf is selected: all of it where nothing else is said.
  absl::StatusOr<Box> RegionOf(const CheckpointNode& node) const {
    return boxes_.Of(node.leaf->leaf());
  }
  // Everything under `node`, as values and tensors of its own: read now, taken by RawValue after
  // Read. Reported as restored only where the caller asked for it. What cannot be read, and may be
  // so, becomes null.
  void WantRaw(CheckpointNode& node, bool asked_for = true);
  StateValue RawValue(const CheckpointNode& node) const;
  // What is there without reading a tensor; a tensor becomes null. Needs no WantRaw.
  static StateValue PlainValue(const CheckpointNode& node);
  // Marks values that were taken through PlainValue: complains where a rank rule is missing.
  void NotePlain(CheckpointNode& node);

  // Tensors that decide whether the rest fits, read whole while it is gathered. Undefined where one
  // is damaged or not all there: Read or Check complain of those that are wanted later. What else
  // goes wrong is for Check to say.
  std::vector<at::Tensor> ReadAhead(absl::Span<const CheckpointNode* const> nodes);

  void OnCommit(std::function<absl::Status()> action) { commits_.push_back(std::move(action)); }

  // The entry of the checkpoint's top level that is being compared: policies ask for it. Empty: the
  // names that are compared are that level.
  void set_top_level(std::string name) { top_level_ = std::move(name); }
  // Before names are looked up in `node`.
  void RenameChildren(CheckpointNode& node, bool is_module);

  // A key that the caller asked for. `names` gives those that exist in its place, where near ones
  // may help; it is called only while the complaints are few.
  enum class Asked { kKey, kModuleName };
  using Names = absl::FunctionRef<std::vector<std::string>()>;
  static std::vector<std::string> NoNames() { return {}; }
  void Missing(const std::string& parent, const std::string& name, Asked asked, Names names);
  void Missing(const CheckpointNode& parent, const std::string& name, Asked asked) {
    Missing(parent.printed, name, asked, [&parent] { return parent.ChildNames(); });
  }
  // `names`: those that the caller has in its place.
  void Unexpected(CheckpointNode& node, Names names);
  // Something of another kind, dtype or shape. Where a rank rule is missing nobody knows what it
  // is, and that is the complaint.
  void Mismatched(CheckpointNode& node, absl::string_view text);
  // What would make a failing load succeed: at the end of its error.
  void Hint(std::string text) { hints_.push_back(std::move(text)); }
  // Never tolerated: parameter groups that don't fit.
  void Problem(const std::string& printed, absl::string_view text);
  // Whether something in a container that was dealt with stays in the remainder.
  bool keeps_any() const { return keeps_any_; }
  void Keep(CheckpointNode& node);
  void Restored(const CheckpointNode& node);
  void LeftToOtherRanks(const std::string& printed) { report_.other_ranks.push_back(printed); }

  absl::Status Check();
  // DATA_LOSS: as Checkpointer::Load says.
  absl::Status Read();
  absl::Status Commit();
  // What was restored is in it only after Read has succeeded.
  LoadReport TakeReport();

 private:
  LeafFacts FactsOfName(const std::string& printed) const;
  LeafFacts FactsOfNode(const CheckpointNode& node) const;

  const LoadRules rules_;
  RestorePlan& plan_;
  const SelectedBoxes boxes_;
  std::string top_level_;
  std::map<std::pair<uint32_t, Box>, at::Tensor> raw_;  // by leaf number and region
  std::vector<std::function<absl::Status()>> commits_;
  // Complaints that make the load fail.
  std::vector<std::string> missing_;
  std::vector<std::string> unexpected_;
  std::vector<std::string> mismatched_;
  std::vector<std::string> problems_;
  std::vector<std::string> needs_rank_rule_;
  std::vector<std::string> hints_;
  absl::Status read_ahead_;  // of what is no complaint about the state: the daemon went away
  bool missing_key_ = false;
  bool keeps_any_ = false;
  bool read_ = false;
  std::vector<std::pair<uint32_t, std::string>> restored_;  // leaf number, printed key
  LoadReport report_;
  LoadReads reads_{plan_, report_};
};

// optimizer_load.cc: plans the restoring of an optimizer, in place, from `node`, which is a
// dictionary with `state` and `param_groups`.
void PlanOptimizerLoad(torch::optim::Optimizer& optimizer, const ShardedOptimizer* sharded,
                       CheckpointNode& node, LoadPlan& plan);

}  // namespace ckpt

#endif  // CKPT_CLIENT_TORCH_LOAD_PLAN_H_
