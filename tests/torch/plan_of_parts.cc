#include "tests/torch/plan_of_parts.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/dtype.h"
#include "common/key.h"

namespace ckpt::testing {
namespace {

std::string DenseBytes(const PartLeaf& leaf) {
  std::string bytes(leaf.box.volume() * DTypeBytes(leaf.dtype), '\0');
  if (bytes.empty()) return bytes;
  auto* out = reinterpret_cast<std::byte*>(bytes.data());
  if (leaf.data != nullptr) {
    std::memcpy(out, leaf.data, bytes.size());
  } else {
    // In odd pieces, as a copy in threads would be.
    for (uint64_t begin = 0; begin < bytes.size(); begin += 13) {
      leaf.copy(begin, std::min<uint64_t>(13, bytes.size() - begin), out + begin);
    }
  }
  return bytes;
}

}  // namespace

PlanOfParts::PlanOfParts(const std::vector<Part>& parts, uint64_t step) {
  checkpoint_.mutable_id()->set_run("test/run");
  checkpoint_.mutable_id()->set_step(step);
  checkpoint_.set_world_size(static_cast<uint32_t>(parts.size()));
  checkpoint_.set_state(v1::CHECKPOINT_STATE_COMMITTED);
  std::map<std::string, uint32_t> numbers;
  for (const Part& part : parts) {
    std::vector<uint32_t> number_of;  // by leaf of the part
    for (const PartLeaf& leaf : part.leaves) {
      const bool own = leaf.placement == v1::PLACEMENT_PER_RANK;
      const std::string name = absl::StrCat(PrintKey(leaf.key), own ? "@" : "",
                                            own ? absl::StrCat(part.rank) : "");
      const auto [found, is_new] = numbers.emplace(name, leaves_.size());
      number_of.push_back(found->second);
      if (is_new) {
        v1::PlannedLeaf& planned = leaves_.emplace_back();
        v1::Leaf& declared = *planned.mutable_leaf();
        *declared.mutable_key() = leaf.key.ToProto();
        declared.set_kind(leaf.kind);
        declared.set_placement(leaf.placement);
        declared.set_dtype(leaf.dtype);
        declared.mutable_shape()->Add(leaf.shape.begin(), leaf.shape.end());
        declared.set_alias_of_plus_one(leaf.alias_of_plus_one);
        planned.set_leaf_number(found->second);
        planned.set_rank(part.rank);
        planned.set_selected(true);
        *planned.mutable_value() = leaf.value;
        if (leaf.alias_of_plus_one > 0) {
          planned.set_alias_of(number_of[leaf.alias_of_plus_one - 1]);
        }
        stored_.emplace_back();
      }
      const bool tensor = IsTensorKind(leaf.kind) && leaf.alias_of_plus_one == 0;
      if (!tensor) continue;
      if (is_new || leaf.placement == v1::PLACEMENT_SHARDED) {
        stored_[found->second].push_back({leaf.box, DenseBytes(leaf)});
      }
    }
  }
}

absl::StatusOr<uint32_t> PlanOfParts::Find(const std::string& printed_key, uint32_t rank) const {
  for (const v1::PlannedLeaf& leaf : leaves_) {
    if (PrintKey(leaf.leaf().key()) != printed_key) continue;
    if (leaf.leaf().placement() == v1::PLACEMENT_PER_RANK && leaf.rank() != rank) continue;
    return leaf.leaf_number();
  }
  return absl::NotFoundError(printed_key);
}

absl::Status PlanOfParts::Check(absl::Span<const ReadTarget> targets) const {
  for (const ReadTarget& target : targets) {
    const v1::PlannedLeaf& leaf = leaves_[target.leaf_number];
    const uint32_t number = leaf.has_alias_of() ? leaf.alias_of() : target.leaf_number;
    const Extents shape(leaf.leaf().shape().begin(), leaf.leaf().shape().end());
    if (absl::Status status = ValidateBox(target.region, shape); !status.ok()) return status;
    if (PrintKey(leaf.leaf().key()) == lost_) {
      return absl::DataLossError(absl::StrCat("lost: ", *lost_));
    }
    uint64_t covered = 0;
    for (const Stored& stored : stored_[number]) {
      if (const auto meet = Intersect(stored.box, target.region)) covered += meet->volume();
    }
    if (covered < target.region.volume()) {
      return absl::FailedPreconditionError(
          absl::StrCat("not covered: ", PrintKey(leaf.leaf().key())));
    }
  }
  return absl::OkStatus();
}

absl::Status PlanOfParts::Read(absl::Span<const ReadTarget> targets, ReadStatistics* statistics) {
  if (!fail_.ok() && reads_before_fail_-- == 0) return std::exchange(fail_, absl::OkStatus());
  if (absl::Status status = Check(targets); !status.ok()) return status;
  for (const ReadTarget& target : targets) {
    const v1::PlannedLeaf& leaf = leaves_[target.leaf_number];
    const uint32_t number = leaf.has_alias_of() ? leaf.alias_of() : target.leaf_number;
    const uint64_t item = DTypeBytes(leaf.leaf().dtype());
    elements_read_ += target.region.volume();
    if (statistics) statistics->bytes_asked += target.region.volume() * item;
    for (const Stored& stored : stored_[number]) {
      const auto meet = Intersect(stored.box, target.region);
      if (!meet) continue;
      ForEachRun(
          *meet, stored.box, target.region, [&](uint64_t from, uint64_t to, uint64_t elements) {
            std::memcpy(target.out + to * item, stored.bytes.data() + from * item, elements * item);
          });
    }
    if (PrintKey(leaf.leaf().key()) == damaged_) {
      return absl::DataLossError(absl::StrCat("damaged: ", *damaged_));
    }
  }
  return absl::OkStatus();
}

}  // namespace ckpt::testing
