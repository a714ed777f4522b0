#include "server/rpc/plan_leaves.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "common/dtype.h"
#include "common/layout.h"
#include "common/status_macros.h"

namespace ckpt {

absl::Status PlanLeaves::Run(Cancelled cancelled, v1::PlanSummary& summary) {
  CKPT_RETURN_IF_ERROR(
      selection_.ForEach(leaves_, "", cancelled, [&]() -> absl::StatusOr<bool> {
        CKPT_RETURN_IF_ERROR(AddSelected(summary));
        return true;
      }));
  for (const auto& [storage_key, tied] : tied_) {
    if (cancelled()) return CallerHasGone();
    CKPT_RETURN_IF_ERROR(AddTied(storage_key, tied, summary));
  }
  return absl::OkStatus();
}

absl::Status PlanLeaves::AddSelected(v1::PlanSummary& summary) {
  summary.set_leaves(summary.leaves() + 1);
  if (leaves_.facts().bytes.has_value()) summary.set_tensors(summary.tensors() + 1);
  if (leaves_.tied()) {
    const CommittedPart* alias = leaves_.alias();
    const absl::string_view storage =
        alias == nullptr ? leaves_.printed_key() : *alias->leaf().alias_target();
    tied_[std::string(storage)].push_back({std::string(leaves_.printed_key()),
                                           alias == nullptr ? leaves_.rank() : alias->rank()});
    return absl::OkStatus();
  }
  CKPT_ASSIGN_OR_RETURN(v1::PlannedLeaf* const leaf, writer_.AddLeaf());
  CKPT_RETURN_IF_ERROR(leaves_.Describe(*leaf));
  leaf->set_selected(true);
  Need need;
  CKPT_RETURN_IF_ERROR(AddNeed(leaves_.printed_key(), leaf->leaf(), need));
  return AddStored(*leaf, need, summary).status();
}

absl::Status PlanLeaves::AddTied(const std::string& storage_key, const std::vector<Tied>& tied,
                                 v1::PlanSummary& summary) {
  absl::flat_hash_map<uint32_t, uint32_t> numbers;
  CKPT_RETURN_IF_ERROR(leaves_.Seek(storage_key));
  while (leaves_.valid() && leaves_.printed_key() == storage_key) {
    v1::PlannedLeaf storage;
    CKPT_RETURN_IF_ERROR(leaves_.Describe(storage));
    Need need;
    bool wanted = false;
    for (const Tied& one : tied) {
      if (!leaves_.DeclaredBy(one.rank)) continue;
      wanted = true;
      // Tied leaves have one shape.
      CKPT_RETURN_IF_ERROR(AddNeed(one.key, storage.leaf(), need));
      if (one.key == storage_key) storage.set_selected(true);
    }
    if (wanted) {
      CKPT_ASSIGN_OR_RETURN(v1::PlannedLeaf* const leaf, writer_.AddLeaf());
      storage.set_leaf_number(leaf->leaf_number());
      *leaf = storage;
      CKPT_ASSIGN_OR_RETURN(const uint32_t number, AddStored(storage, need, summary));
      for (const CommittedPart* part : leaves_.parts()) numbers[part->rank()] = number;
    }
    CKPT_RETURN_IF_ERROR(leaves_.Next());
  }
  absl::flat_hash_set<absl::string_view> done;
  done.insert(absl::string_view(storage_key));
  for (const Tied& one : tied) {
    if (!done.insert(absl::string_view(one.key)).second) continue;
    CKPT_RETURN_IF_ERROR(AddAliases(one.key, tied, numbers));
  }
  return absl::OkStatus();
}

absl::Status PlanLeaves::AddAliases(const std::string& key, const std::vector<Tied>& tied,
                                    const absl::flat_hash_map<uint32_t, uint32_t>& numbers) {
  CKPT_RETURN_IF_ERROR(leaves_.Seek(key));
  while (leaves_.valid() && leaves_.printed_key() == key) {
    const auto one = std::find_if(tied.begin(), tied.end(), [&](const Tied& candidate) {
      return candidate.key == key && leaves_.DeclaredBy(candidate.rank);
    });
    if (one != tied.end()) {
      const auto number = numbers.find(one->rank);
      if (number == numbers.end()) {
        return absl::DataLossError(
            absl::StrCat("rank ", one->rank, " has no tensor that '", key, "' is an alias of"));
      }
      CKPT_ASSIGN_OR_RETURN(v1::PlannedLeaf* const alias, writer_.AddLeaf());
      CKPT_RETURN_IF_ERROR(leaves_.Describe(*alias));
      alias->set_selected(true);
      alias->set_alias_of(number->second);
    }
    CKPT_RETURN_IF_ERROR(leaves_.Next());
  }
  return absl::OkStatus();
}

absl::Status PlanLeaves::AddNeed(absl::string_view key, const v1::Leaf& leaf, Need& need) const {
  const std::vector<Box>* boxes = selection_.BoxesOf(key);
  if (boxes != nullptr) {
    const absl::Span<const uint64_t> shape(leaf.shape().data(),
                                           static_cast<size_t>(leaf.shape_size()));
    for (const Box& box : *boxes) {
      if (const absl::Status status = ValidateBox(box, shape); !status.ok()) {
        return absl::InvalidArgumentError(
            absl::StrCat("slice of '", key, "': ", status.message()));
      }
    }
  }
  need.Add(boxes);
  return absl::OkStatus();
}

absl::StatusOr<uint32_t> PlanLeaves::AddStored(const v1::PlannedLeaf& leaf, const Need& need,
                                               v1::PlanSummary& summary) {
  const uint64_t element_bytes = DTypeBytes(leaf.leaf().dtype());
  const auto dimensions = static_cast<size_t>(leaf.leaf().shape_size());
  summary.set_bytes(summary.bytes() +
                    need.Bytes(element_bytes, leaves_.facts().bytes.value_or(0)));
  const uint32_t number = leaf.leaf_number();  // the leaf is sent, and gone, when pieces fill up
  for (CommittedPart* const part : leaves_.parts()) {
    CKPT_RETURN_IF_ERROR(writer_.AddPieces(*part, number, element_bytes, dimensions, need));
  }
  return number;
}

}  // namespace ckpt
